// Talking to the server: of the requests for one picture only the newest matters, a server that is gone is waited for,
// and what it refuses is said.

const AGAIN = 1000; // milliseconds between two tries while the server is gone
const LOOK = 4000; // between two looks at a server of which nothing is wanted
const BUSY = [1000, 8000]; // before a request that was answered 503 is made again: at first, and at most
const PATIENCE = 600; // after which a request under way is given up for a newer one; quicker ones are let finish

const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

class Connection extends EventTarget {
  constructor() {
    super();
    this.lost = false;
    this.waiting = [];
    setInterval(() => { if (!this.lost && !document.hidden) this.#look(); }, LOOK);
  }

  // Resolves when the server is there again.
  back() {
    if (!this.lost) {
      this.lost = true;
      this.say("Disconnected: waiting for the server …");
      this.#retry();
    }
    return new Promise(resolve => this.waiting.push(resolve));
  }

  async #look() {
    try {
      await fetch("api/alive", { cache: "no-store" });
    } catch {
      if (!this.lost) this.back();
    }
  }

  async #retry() {
    for (;;) {
      await sleep(AGAIN);
      try {
        const answer = await fetch("api/alive", { cache: "no-store" });
        if (answer.ok) break;
        this.say(answer.status === 403
          ? "The server was started anew with another token: open the address that it printed."
          : `Waiting for the server: ${(await refusalOf(answer)).error}`);
      } catch { /* still gone */ }
    }
    this.lost = false;
    this.say("");
    for (const resolve of this.waiting.splice(0)) resolve();
    this.dispatchEvent(new Event("back"));
  }

  say(text) {
    this.dispatchEvent(new CustomEvent("said", { detail: text }));
  }
}

export const connection = new Connection();

// What the page begins with. As long as the server refuses it, the page says why.
export async function start() {
  for (;;) {
    const [answer, data] = await fetched("api/start", { cache: "no-store" });
    if (answer?.ok && data) {
      connection.say("");
      return data;
    }
    if (!answer || answer.status === 403) {
      await connection.back();
    } else {
      connection.say(`The page cannot begin: ${(data ?? NO_JSON).error}`);
      await sleep(BUSY[0]);
    }
  }
}

// Resolves after a time, or when `signal` gives up what waits.
function pause(milliseconds, signal) {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); });
  });
}

// What was refused, as the server says it; uvicorn itself answers with a plain text, or with a page of a proxy.
async function refusalOf(answer) {
  const text = await answer.text();
  try {
    const data = JSON.parse(text);
    if (typeof data.error === "string") return { parameter: null, ...data };
  } catch { /* a plain text */ }
  return { error: `the server answered ${answer.status} ${answer.statusText}`.trim(), parameter: null };
}

const NO_JSON = { error: "the answer is no JSON: another program may be at this address", parameter: null };

// The answer and its data, or what was refused: [null, null] where the server is gone, [answer, null] where a good answer
// is no JSON. An AbortError comes through.
async function fetched(path, options) {
  let answer = null;
  try {
    answer = await fetch(path, options);
    return [answer, answer.ok ? await answer.json() : await refusalOf(answer)];
  } catch (error) {
    if (error instanceof SyntaxError) return [answer, null];
    if (error instanceof TypeError) return [null, null];
    throw error;
  }
}

const tab = Array.from(crypto.getRandomValues(new Uint32Array(2)), word => word.toString(36)).join("");

// One picture of the page, or one sheet. `answered` and `refused` are called with what the newest request got.
export class Slot {
  constructor(path, name, { answered, refused, busy = () => {} }) {
    Object.assign(this, { path, answered, refused, busy, name: `${tab}-${name}` });
    this.next = null;
    this.running = false;
    this.doubted = false; // by the last answer
  }

  // `note` comes back with the answer.
  ask(body, note = null) {
    this.next = { body, note, tries: 0 };
    if (!this.running) this.#run();
    else if (performance.now() - this.since > PATIENCE) this.stop.abort();
  }

  // Forget what has been asked.
  cancel() {
    this.next = null;
    if (this.running) this.stop.abort();
  }

  // Whether the server is not there, or not for this page: it may have ended in the midst of an answer, or come back
  // with another token. What a server that is there answers a second time is said.
  #gone(answer, data) {
    if (!answer) return true;
    const doubted = answer.status === 403 || !data;
    const first = doubted && !this.doubted;
    this.doubted = doubted;
    return first;
  }

  async #run() {
    this.running = true;
    try {
      while (this.next) await this.#one();
    } finally {
      this.running = false;
    }
  }

  async #one() {
    const wanted = this.next;
    const { body, note } = wanted;
    this.next = null;
    this.stop = new AbortController();
    this.since = performance.now();
    const late = setTimeout(() => this.busy(true), 250);
    try {
      const [answer, data] = await fetched(this.path, {
        method: "POST", headers: { "Content-Type": "application/json" }, signal: this.stop.signal,
        body: JSON.stringify({ slot: this.name, ...body }),
      });
      if (this.#gone(answer, data)) { this.next ??= wanted; await connection.back(); }
      else if (answer.ok && data) this.answered(data, body, note);
      else if (answer.status === 503) await this.#later(wanted, data);
      else if (answer.status !== 409) this.refused(data ?? NO_JSON, body, note);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      clearTimeout(late);
      this.busy(false);
    }
  }

  // Ask again: the server has too much to do, or this is a long search, which goes on where it was.
  async #later(wanted, refusal) {
    if (this.next) return;
    wanted.tries += 1;
    if (wanted.tries >= 2) this.refused(refusal, wanted.body, wanted.note);
    this.since = -Infinity; // a newer request does not wait
    await pause(Math.min(BUSY[1], BUSY[0] * 2 ** (wanted.tries - 1)), this.stop.signal);
    if (!this.stop.signal.aborted) this.next ??= wanted;
  }
}
