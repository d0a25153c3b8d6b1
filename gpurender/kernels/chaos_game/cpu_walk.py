"""The points of the chaos game in Numba: where the walkers start, what they pick, and their walks.

**Many walkers, one image.** A sequential game is one long chain of dependent steps. Instead, ``W`` walkers play at
once, and point ``i`` is step ``i // W`` of walker ``i % W``. The walkers start along one sequential game, the *pilot*:
the pilot begins at the origin, as the released game does, and walker ``w`` starts where the pilot is after ``16 w``
steps. So walker 0 begins like the released game, and the other walkers need no burn-in. A system that mixes slowly (the
spirals of 1p-frac turn for hundreds of steps) or does not contract at all shows this within the pilot's 2,048 steps, as
in a sequential game. The tests compare occupancies with a sequential float64 game.

**Which map.** Sixteen random bits per step are compared with cumulative probabilities in units of 2^-16, so a map's
probability is off by at most 2^-16; over 200,000 points this is 3 points, against a sampling deviation of up to 220.

**Divergence.** Most published systems contract only on average, and a few do not contract at all. A walker that leaves
|x|, |y| <= 2^62 returns to the origin, and the point out of range is neither rendered nor framed. The points that the
walker visited on the way out stay, so the frame is as wide as in the released float64 program and the image is, as in
that program, a few pixels. The range is looked at once, after a walk without a check in its steps: the extremes tell.
Only a system that left the range (4 % of random ones) walks again, with a check after every step.
"""

import numpy as np
from numba import float32, int32, njit, uint32, uint64

from gpurender.kernels.philox.cpu import philox4x32
from gpurender.numerics.streams import Stream, halves
from gpurender.runtime.numba_jit import kernel
from gpurender.runtime.threads import parallel_ranges

MAX_WALKERS = 128
STEPS_A_WALKER = 64  # minimum steps per walker; fewer would leave the measure unmixed
PILOT_STEPS = 16  # steps of the pilot between the starts of successive walkers
PILOT_BLOCKS = 1 << 31  # first Philox block of the pilot, after all blocks of the walkers
LANES = 16  # pilots side by side
LEAST_TOGETHER = 4  # images: fewer pilots are faster one after the other
FEW = 8  # maps of which every one moves every walker
PICKS_A_CALL = 8  # picks of sixteen bits each, from the four words of one Philox call
LIMIT = np.float32(2.0**62)  # squares stay finite in float32

ONE, TWO, THREE = (np.uint64(row * MAX_WALKERS) for row in (1, 2, 3))  # rows of an array of [4, W], flat

POINTS = np.uint32(Stream.POINTS)


@kernel
def walker_count(points):
    """Return the largest power of two, at most 128, that leaves every walker 64 steps; 1 if there is none."""
    walkers = 1
    while walkers < MAX_WALKERS and walkers * 2 * STEPS_A_WALKER <= points:
        walkers *= 2
    return walkers


@kernel
def draw_eight(chunk, key, number, picks):
    """Draw the picks of eight turns: picks[j, w] holds those of turns 2j (low half) and 2j + 1 (high half) of walker w.

    picks  # [4, W] uint32
    """
    walkers = picks.shape[1]
    for w in range(walkers):
        block = uint32(chunk * walkers + w)
        picks[0, w], picks[1, w], picks[2, w], picks[3, w] = philox4x32(
            block, POINTS, number[0], number[1], key[0], key[1]
        )


@kernel
def draw_picks(key, number, picks):
    """Draw the picks of a walk, 50 us for 100,000 points (Zen 4); picks  # [turns / 8, 4, W] uint32."""
    for chunk in range(picks.shape[0]):
        draw_eight(chunk, key, number, picks[chunk])


@kernel
def draw_pilot(key, number, words):
    """Draw the picks of a pilot: words[c] (uint32 [8 W]) holds those of steps 2c (low half) and 2c + 1 (high half)."""
    for c in range(words.shape[0] // 4):
        words[4 * c], words[4 * c + 1], words[4 * c + 2], words[4 * c + 3] = philox4x32(
            uint32(PILOT_BLOCKS + c), POINTS, number[0], number[1], key[0], key[1]
        )


@kernel
def choose(thresholds, words, shift, which):
    """Set which[w] to the map that the sixteen bits of words[w] from bit ``shift`` on choose; int32 [W]."""
    which[:] = 0
    for k in range(thresholds.shape[0] - 1):  # one threshold at a time: every loop over walkers is a vector loop
        for w in range(words.shape[0]):
            which[w] += int32(((words[w] >> shift) & uint32(0xFFFF)) >= thresholds[k])


@kernel
def lead(maps, which, checked, x, y):
    """Fill x, y (float32 [W]) with every sixteenth point of a sequential game; return whether all points are in range.

    Each step waits for the one before it, and a check between them takes as long as half a step: 11 us with, 7 us
    without (Zen 4).

    which  # [2, 8 W] int32, of even and of odd steps
    checked: whether the game returns to the origin instead of leaving the range
    """
    here_x, here_y, inside = float32(0), float32(0), True
    for w in range(x.shape[0]):
        x[w], y[w] = here_x, here_y
        for turn in range(PILOT_STEPS):
            i = which[turn % 2, PILOT_STEPS // 2 * w + turn // 2]
            next_x = maps[i, 0] * here_x + maps[i, 1] * here_y + maps[i, 4]
            next_y = maps[i, 2] * here_x + maps[i, 3] * here_y + maps[i, 5]
            within = (abs(next_x) <= LIMIT) & (abs(next_y) <= LIMIT)  # False for NaN as well
            inside &= within
            if checked and not within:
                next_x, next_y = float32(0), float32(0)
            here_x, here_y = next_x, next_y
    return inside


@kernel
def pilot(maps, thresholds, key, number, x, y):
    """Fill x, y (float32 [W]) with the walkers' starts: every sixteenth point of a sequential game from the origin."""
    words = np.empty(x.shape[0] * PILOT_STEPS // 2, np.uint32)
    which = np.empty((2, len(words)), np.int32)
    draw_pilot(key, number, words)
    choose(thresholds, words, uint32(0), which[0])
    choose(thresholds, words, uint32(16), which[1])
    for checked in (False, True):  # a loop, so that Numba compiles one variant
        if lead(maps, which, checked, x, y):
            break


@kernel
def pilots_of_two(maps, thresholds, key, number, starts):
    """Play up to sixteen pilots side by side, all of two maps and the same picks; return whether all are in range.

    A pilot is one chain of dependent steps, so alone it leaves the processor waiting: 9 us, side by side 1.4 us each
    (Zen 4). Sixteen lanes, because LLVM unrolls a loop over eight instead of making it a vector loop. Lanes without an
    image play the last image again. The range is not checked between the steps: the extremes tell.

    maps  # [n, M, 6] float32; thresholds  # [n, M] uint32; number  # [2] uint32, of all; starts  # [n, 2, W] float32
    """
    images, walkers = starts.shape[0], starts.shape[2]
    coefficients, least = np.empty((2 * 6, LANES), np.float32), np.empty(LANES, np.uint32)
    xs, ys, farthest = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    words, flat = np.empty(walkers * PILOT_STEPS // 2, np.uint32), coefficients.ravel()
    for lane in range(LANES):
        n = min(lane, images - 1)
        least[lane] = thresholds[n, 0]
        for k in range(2 * 6):
            coefficients[k, lane] = maps[n, k // 6, k % 6]
    draw_pilot(key, number, words)
    for w in range(walkers):
        for n in range(images):
            starts[n, 0, w], starts[n, 1, w] = xs[n], ys[n]
        for c in range(PILOT_STEPS // 2 * w, PILOT_STEPS // 2 * (w + 1)):
            two_pilot_steps(flat, least, words[c], xs, ys, farthest)
    inside = True
    for lane in range(LANES):  # False for NaN as well, which stays NaN up to the last step
        inside &= (abs(xs[lane]) <= LIMIT) & (abs(ys[lane]) <= LIMIT) & (farthest[lane] <= LIMIT)
    return inside


@kernel
def two_pilot_steps(maps, least, word, xs, ys, farthest):
    """Move sixteen pilots two steps, by the low and by the high half of a word; all arrays but maps: [16].

    maps  # [12 * 16] float32: a, b, c, d, e, f of map 0 and of map 1, each of all pilots
    farthest: extended by |x| and |y| of both steps; NaN is ignored
    """
    lanes = uint64(LANES)
    low, high = word & uint32(0xFFFF), word >> uint32(16)
    for lane in range(LANES):
        i = uint64(lane)
        a0, b0, c0, d0 = maps[i], maps[i + lanes], maps[i + lanes * uint64(2)], maps[i + lanes * uint64(3)]
        e0, f0 = maps[i + lanes * uint64(4)], maps[i + lanes * uint64(5)]
        a1, b1 = maps[i + lanes * uint64(6)], maps[i + lanes * uint64(7)]
        c1, d1 = maps[i + lanes * uint64(8)], maps[i + lanes * uint64(9)]
        e1, f1 = maps[i + lanes * uint64(10)], maps[i + lanes * uint64(11)]
        x, y, far = xs[i], ys[i], farthest[i]
        chosen = low >= least[i]  # written twice: LLVM makes no vector loop of a loop in the loop
        a, b, e = (a1 if chosen else a0), (b1 if chosen else b0), (e1 if chosen else e0)
        c, d, f = (c1 if chosen else c0), (d1 if chosen else d0), (f1 if chosen else f0)
        x, y = a * x + b * y + e, c * x + d * y + f
        far = abs(x) if abs(x) > far else far
        far = abs(y) if abs(y) > far else far
        chosen = high >= least[i]
        a, b, e = (a1 if chosen else a0), (b1 if chosen else b0), (e1 if chosen else e0)
        c, d, f = (c1 if chosen else c0), (d1 if chosen else d0), (f1 if chosen else f0)
        x, y = a * x + b * y + e, c * x + d * y + f
        far = abs(x) if abs(x) > far else far
        far = abs(y) if abs(y) > far else far
        xs[i], ys[i], farthest[i] = x, y, far


@kernel
def eight_turns_of_two(maps, least, picks, xs, ys, extremes):
    """Play eight turns of all 128 walkers by two maps, without a check of the range.

    Points and extremes of a walker stay in registers: of 100,000 points this takes 27 us, and turn after turn with the
    extremes taken afterwards 70 us (Zen 4). The loop over walkers is a vector loop because all arrays are flat, indices
    are unsigned and every offset is a constant.

    picks  # [4 W] uint32; xs, ys  # [9 W] float32, of which the first W are given
    extremes  # [4 W] float32: smallest x, largest x, smallest y, largest y of every walker; NaN is ignored
    """
    a0, b0, c0, d0, e0, f0 = maps[0, 0], maps[0, 1], maps[0, 2], maps[0, 3], maps[0, 4], maps[0, 5]
    a1, b1, c1, d1, e1, f1 = maps[1, 0], maps[1, 1], maps[1, 2], maps[1, 3], maps[1, 4], maps[1, 5]
    for walker in range(MAX_WALKERS):
        w = uint64(walker)
        x, y = xs[w], ys[w]
        left, right, top, bottom = extremes[w], extremes[w + ONE], extremes[w + TWO], extremes[w + THREE]
        for turn in range(PICKS_A_CALL):
            word = picks[w + uint64(MAX_WALKERS * (turn // 2))]
            chosen = ((word >> uint32(16 * (turn % 2))) & uint32(0xFFFF)) >= least
            a, b, e = (a1 if chosen else a0), (b1 if chosen else b0), (e1 if chosen else e0)
            c, d, f = (c1 if chosen else c0), (d1 if chosen else d0), (f1 if chosen else f0)
            x, y = a * x + b * y + e, c * x + d * y + f
            there = w + uint64(MAX_WALKERS * (turn + 1))
            xs[there], ys[there] = x, y
            left, right = (x if x < left else left), (x if x > right else right)
            top, bottom = (y if y < top else top), (y if y > bottom else bottom)
        extremes[w], extremes[w + ONE], extremes[w + TWO], extremes[w + THREE] = left, right, top, bottom


@kernel
def advance_two(maps, least, words, shift, x, y, next_x, next_y):
    """Move every walker one step by map 0, or 1 if its pick is at least ``least``; all arrays but maps: [W].

    The range is not checked. The pick selects coefficients that lie in registers: of 100,000 points this takes 45 us,
    :func:`advance` 200 us (Zen 4).
    """
    a0, b0, c0, d0, e0, f0 = maps[0, 0], maps[0, 1], maps[0, 2], maps[0, 3], maps[0, 4], maps[0, 5]
    a1, b1, c1, d1, e1, f1 = maps[1, 0], maps[1, 1], maps[1, 2], maps[1, 3], maps[1, 4], maps[1, 5]
    for w in range(next_x.shape[0]):
        chosen = ((words[w] >> shift) & uint32(0xFFFF)) >= least
        a, b, e = (a1 if chosen else a0), (b1 if chosen else b0), (e1 if chosen else e0)
        c, d, f = (c1 if chosen else c0), (d1 if chosen else d0), (f1 if chosen else f0)
        next_x[w] = a * x[w] + b * y[w] + e
        next_y[w] = c * x[w] + d * y[w] + f


@kernel
def prefer(one, least, words, shift, x, y, next_x, next_y):
    """Move those walkers by map ``one`` (float32 [6]) instead whose pick is at least ``least``: 20 us a map."""
    a, b, c, d, e, f = one[0], one[1], one[2], one[3], one[4], one[5]
    for w in range(next_x.shape[0]):
        chosen = ((words[w] >> shift) & uint32(0xFFFF)) >= least
        moved_x = a * x[w] + b * y[w] + e
        moved_y = c * x[w] + d * y[w] + f
        next_x[w] = moved_x if chosen else next_x[w]
        next_y[w] = moved_y if chosen else next_y[w]


@kernel
def advance(maps, which, x, y, next_x, next_y):
    """Move every walker one step, without a check of the range; all arrays but maps: [W]."""
    for w in range(next_x.shape[0]):
        i = which[w]
        next_x[w] = maps[i, 0] * x[w] + maps[i, 1] * y[w] + maps[i, 4]
        next_y[w] = maps[i, 2] * x[w] + maps[i, 3] * y[w] + maps[i, 5]


@njit(forceinline=True)
def ordered(bits):
    """Return an int32 that orders the bits of a float32 as its value; NaN lies beyond the infinities. Its own inverse.

    Minima of integers vectorise; minima of floats, where NaN and the sign of zero matter, do not.
    """
    return bits ^ ((bits >> int32(31)) & int32(0x7FFFFFFF))


@kernel
def extend(bits, extremes):
    """Extend extremes (int32 [2], smallest and largest, ordered) by coordinates; bits  # [n] int32, of float32."""
    low, high = extremes[0], extremes[1]
    for i in range(bits.shape[0]):
        value = ordered(bits[i])
        low, high = min(low, value), max(high, value)
    extremes[0], extremes[1] = low, high


@kernel
def contain(x, y):
    """Return every walker out of range to the origin, in place; x, y  # [W] float32."""
    for w in range(x.shape[0]):
        inside = (abs(x[w]) <= LIMIT) & (abs(y[w]) <= LIMIT)  # False for NaN as well
        x[w] = x[w] if inside else float32(0)
        y[w] = y[w] if inside else float32(0)


@kernel
def play_two(maps, least, picks, xs, ys, extremes):
    """Play as many turns of two maps as whole groups of eight allow; return their number.

    extremes  # [4] int32, ordered: extended by the points of these turns; NaN is ignored, and stays NaN up to the last
    """
    groups = (xs.shape[0] // MAX_WALKERS - 1) // PICKS_A_CALL
    own = np.empty(4 * MAX_WALKERS, np.float32)
    for w in range(MAX_WALKERS):
        own[w] = own[MAX_WALKERS + w] = xs[w]
        own[2 * MAX_WALKERS + w] = own[3 * MAX_WALKERS + w] = ys[w]
    for group in range(groups):
        first = group * PICKS_A_CALL * MAX_WALKERS
        eight_turns_of_two(maps, least, picks[group].ravel(), xs[first:], ys[first:], own)
    bits = own.view(np.int32)
    extend(bits[: 2 * MAX_WALKERS], extremes[:2])
    extend(bits[2 * MAX_WALKERS :], extremes[2:])
    return groups * PICKS_A_CALL


@kernel
def play(maps, thresholds, starts, picks, checked, xs, ys, frame):
    """Fill xs, ys (float32 [points]) and their frame, float32 [4]: min x, max x, min y, max y.

    Point i follows point i - W. Extremes are taken of eight turns at a time, while these are in the L1 cache. They are
    those of the bits, so NaN is an extreme as well.

    maps  # [M, 6] float32; thresholds  # [M] uint32; starts  # [2, W] float32, of the walkers
    picks  # [turns / 8, 4, W] uint32; checked: whether walkers out of range return to the origin
    """
    points, walkers = xs.shape[0], picks.shape[2]
    which = np.empty(walkers, np.int32)
    extremes, x_bits, y_bits = frame.view(np.int32), xs.view(np.int32), ys.view(np.int32)
    extremes[0] = extremes[2] = int32(0x7FFFFFFF)
    extremes[1] = extremes[3] = int32(-0x7FFFFFFF)
    for w in range(walkers):  # no slices: Numba takes 3 s to compile the error of unequal shapes
        xs[w], ys[w] = starts[0, w], starts[1, w]
    played = 0
    if maps.shape[0] == 2 and walkers == MAX_WALKERS and not checked:
        played = play_two(maps, thresholds[0], picks, xs, ys, extremes)
    seen = played * walkers  # the last points that are known are looked at again: NaN, once there, is among them
    for turn in range(played, (points - 1) // walkers):
        here, there, end = turn * walkers, (turn + 1) * walkers, min((turn + 2) * walkers, points)
        place = turn % PICKS_A_CALL
        if place == 0:
            extend(x_bits[seen:here], extremes[:2])
            extend(y_bits[seen:here], extremes[2:])
            seen = here
        words, shift = picks[turn // PICKS_A_CALL, place // 2], uint32(16 * (place % 2))
        x, y, next_x, next_y = xs[here:there], ys[here:there], xs[there:end], ys[there:end]
        if 2 <= maps.shape[0] <= FEW:
            advance_two(maps, thresholds[0], words, shift, x, y, next_x, next_y)
            for i in range(2, maps.shape[0]):
                prefer(maps[i], thresholds[i - 1], words, shift, x, y, next_x, next_y)
        else:
            choose(thresholds, words, shift, which)
            advance(maps, which, x, y, next_x, next_y)
        if checked:
            contain(next_x, next_y)
    extend(x_bits[seen:], extremes[:2])
    extend(y_bits[seen:], extremes[2:])
    for i in range(4):
        extremes[i] = ordered(extremes[i])


@kernel
def walk(maps, thresholds, starts, picks, xs, ys):
    """Play the game: fill xs, ys (float32 [points]) and return their frame; arguments as for :func:`play`.

    (The frame is an array because a scalar that Numba returns becomes float64 in Python, and so in the next kernel.)
    """
    frame = np.empty(4, np.float32)
    for checked in (False, True):  # a loop, so that Numba compiles one variant
        play(maps, thresholds, starts, picks, checked, xs, ys, frame)
        inside = True
        for i in range(4):
            inside &= abs(frame[i]) <= LIMIT  # False for NaN as well
        if inside:
            break
    return frame


# The functions below are ordinary Python around the loops above: compiled into one function, the loops would be
# optimised twice, and the first image would take two seconds longer.


def pilots(systems, key, numbers, walkers):
    """Return the starts of the walkers of every image, float32 [N, 2, W]; numbers  # [N, 2] uint32, the draw ids."""
    own, (maps, thresholds, counts) = unpadded(systems), arrays_of(systems)
    starts = np.empty((len(numbers), 2, walkers), np.float32)

    def work(first, last):
        for begin in range(LANES * first, min(LANES * last, len(numbers)), LANES):
            some = slice(begin, min(begin + LANES, len(numbers)))
            alike = (counts[some] == 2).all() and (numbers[some] == numbers[begin]).all()
            together = alike and some.stop - begin >= LEAST_TOGETHER
            if together and pilots_of_two(maps[some], thresholds[some], key, numbers[begin], starts[some]):
                continue
            for n in range(begin, some.stop):
                pilot(*own(n), key, numbers[n], starts[n, 0], starts[n, 1])

    parallel_ranges(-(-len(numbers) // LANES), work)
    return starts


def walks(systems, draw_ids, seed, points):
    """Return a function that gives a thread its walk: a function of n that returns xs, ys and frame of image n.

    Both are valid until the thread's next walk. All pilots are played at once, before any walk. Images of the same draw
    id, as those of 1p-frac's released variant, choose the same maps in the same turns, so what they pick is drawn once.
    """
    own, key, numbers = unpadded(systems), key_of(seed), split(draw_ids)
    walkers = walker_count(points)
    shape = -(-((points - 1) // walkers) // PICKS_A_CALL), 4, walkers
    shared = np.empty(shape, np.uint32) if len(numbers) and (numbers == numbers[0]).all() else None
    if shared is not None:
        draw_picks(key, numbers[0], shared)
    starts = pilots(systems, key, numbers, walkers)

    def of_thread():
        xs, ys = np.empty(points, np.float32), np.empty(points, np.float32)
        picks = np.empty(shape, np.uint32) if shared is None else shared

        def walk_of(n):
            if shared is None:
                draw_picks(key, numbers[n], picks)
            return xs, ys, walk(*own(n), starts[n], picks, xs, ys)

        return walk_of

    return of_thread


def arrays_of(systems):
    """Return maps float32 [N, M, 6], thresholds uint32 [N, M] and the counts of maps of systems, as arrays."""
    return systems.maps.numpy(), systems.thresholds.numpy().view(np.uint32), systems.counts.numpy()


def unpadded(systems):
    """Return a function of n that gives maps float32 [m, 6] and thresholds uint32 [m] of system n without padding."""
    maps, thresholds, counts = arrays_of(systems)
    return lambda n: (maps[n, : counts[n]], thresholds[n, : counts[n]])


def key_of(seed):
    """Return the Philox key of a seed; uint32 [2]."""
    return np.array(halves(seed), dtype=np.uint32)


def split(draw_ids):
    """Split draw ids, int64 [N] (the bits of uint64), into words, uint32 [N, 2], low word first."""
    return np.ascontiguousarray(draw_ids.numpy()).view(np.uint32).reshape(-1, 2)
