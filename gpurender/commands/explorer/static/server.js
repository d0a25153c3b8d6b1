// Talking to the server: of the requests for one picture only the newest matters, and a server that is gone is waited for.

const AGAIN = 1000; // milliseconds between two tries while the server is gone
const LOOK = 4000; // between two looks at a server of which nothing is wanted
const PATIENCE = 600; // after which a request under way is given up for a newer one; quicker ones are let finish

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
      this.#say("Disconnected: waiting for the server …");
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
      await new Promise(resolve => setTimeout(resolve, AGAIN));
      try {
        const answer = await fetch("api/alive", { cache: "no-store" });
        if (answer.ok) break;
        if (answer.status === 403) {
          this.#say("The server was started anew with another token: open the address that it printed.");
          continue;
        }
      } catch { /* still gone */ }
    }
    this.lost = false;
    this.#say("");
    for (const resolve of this.waiting.splice(0)) resolve();
    this.dispatchEvent(new Event("back"));
  }

  #say(text) {
    this.dispatchEvent(new CustomEvent("said", { detail: text }));
  }
}

export const connection = new Connection();

export async function start() {
  for (;;) {
    try {
      const answer = await fetch("api/start", { cache: "no-store" });
      if (answer.ok) return await answer.json();
    } catch { /* gone */ }
    await connection.back();
  }
}

const tab = Array.from(crypto.getRandomValues(new Uint32Array(2)), word => word.toString(36)).join("");

// One picture of the page, or one sheet. `answered` and `refused` are called with what the newest request got.
export class Slot {
  constructor(path, name, { answered, refused, busy = () => {} }) {
    Object.assign(this, { path, answered, refused, busy, name: `${tab}-${name}` });
    this.next = null;
    this.running = false;
  }

  // `note` comes back with the answer.
  ask(body, note = null) {
    this.next = { body, note };
    if (!this.running) this.#run();
    else if (performance.now() - this.since > PATIENCE) this.stop.abort();
  }

  // Forget what has been asked.
  cancel() {
    this.next = null;
    if (this.running) this.stop.abort();
  }

  async #run() {
    this.running = true;
    while (this.next) {
      const wanted = this.next;
      const { body, note } = wanted;
      this.next = null;
      this.stop = new AbortController();
      this.since = performance.now();
      const late = setTimeout(() => this.busy(true), 250);
      try {
        const answer = await fetch(this.path, {
          method: "POST", headers: { "Content-Type": "application/json" }, signal: this.stop.signal,
          body: JSON.stringify({ slot: this.name, ...body }),
        });
        const data = await answer.json();
        if (answer.ok) this.answered(data, body, note);
        else if (answer.status === 403) { this.next ??= wanted; await connection.back(); }
        else if (answer.status === 503) this.next ??= wanted; // a long search, which goes on where it was
        else if (answer.status !== 409) this.refused(data, body, note);
      } catch (error) {
        if (error.name !== "AbortError") {
          if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error; // SyntaxError: half an answer
          this.next ??= wanted;
          await connection.back();
        }
      } finally {
        clearTimeout(late);
        this.busy(false);
      }
    }
    this.running = false;
  }
}
