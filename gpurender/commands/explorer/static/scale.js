// Sliders: their positions 0 to 1 and the values of a range. The value at which a control is built lies at 0.4 of its
// slider, or at its own place if that is farther, so that a range from 1 to 10,000,000 is fine where it is used.

const AT = 0.4;
const WIDE = 1000; // from this width on, a range without a value is stretched, too

export function scale(low, high, anchor) {
  const width = high - low;
  let place = anchor === null || !(width > 0) ? (width >= WIDE ? 1e-3 : AT) : (anchor - low) / width;
  place = Math.min(1, Math.max(1e-8, place));
  const power = place < AT / 4 ? Math.log(place) / Math.log(AT) : 1;
  return {
    value: position => low + width * position ** power,
    position: value => (width > 0 ? Math.min(1, Math.max(0, (value - low) / width)) ** (1 / power) : 0),
  };
}

// A real number as a person writes it: as many digits as the range needs.
export function rounded(value, width) {
  const digits = Math.max(0, Math.min(12, 3 - Math.floor(Math.log10(width))));
  const near = Math.abs(value) < width / 100 ? Number(value.toPrecision(2)) : Number(value.toFixed(digits));
  return Object.is(near, -0) ? 0 : near;
}
