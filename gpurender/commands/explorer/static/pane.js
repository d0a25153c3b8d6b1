// A pane: one recipe's picture, its augmented views, and what there is to say of the recipe.

import { copy, make } from "./dom.js";
import { Slot } from "./server.js";
import { copyOf } from "./state.js";

const LINK = /^(.*?),? *(https?:\/\/\S+)$/;
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Pane {
  // `answered(data)`, `refused(data)`: what the server said; `moved(classes, instances)`; `chosen()`: it was focused.
  constructor(name, { answered, refused, moved, chosen }) {
    this.name = name;
    this.last = this.lastBody = null; // the last answer, and what was asked for it
    this.slot = new Slot("api/draw", name, {
      answered: (data, body) => { this.show(data, body); answered(data, body); },
      refused: (data, body) => { this.refuse(data.error); refused(data, body); },
      busy: busy => this.frame.classList.toggle("busy", busy),
    });
    this.image = make("img", { alt: "", draggable: "false", hidden: true });
    this.first = make("p", { class: "first" }, "The first picture may take up to a minute: its kernels are compiled, once on a machine.");
    this.error = make("p", { class: "refusal", hidden: true });
    this.frame = make("div", {
      class: "frame", tabindex: "0", role: "group",
      "aria-label": `Picture ${name}: left and right choose the instance, up and down the class`,
      onkeydown: event => this.#key(event, moved),
    }, this.first, this.image, this.error);
    this.title = make("h2");
    this.list = make("dl");
    this.python = make("pre", { tabindex: "0" });
    this.json = make("pre", { tabindex: "0" });
    const code = (what, of) => make("button", { type: "button", onclick: event => copy(of.textContent, what, event.currentTarget) }, `Copy as ${what}`);
    this.facts = make("div", { class: "facts" }, this.list,
      make("div", { class: "buttons" }, code("Python", this.python), code("JSON", this.json)),
      make("details", {}, make("summary", {}, "Python and JSON"), this.python, this.json));
    this.strip = make("div");
    this.views = make("div", { class: "views", hidden: true }, make("p"), this.strip);
    this.element = make("section", { class: "pane", "aria-label": `Recipe ${name}`, onfocusin: chosen, onclick: chosen },
      this.title, this.frame, this.facts, this.views);
  }

  #key(event, moved) {
    const move = MOVES[event.key];
    if (!move || event.altKey || event.ctrlKey || event.metaKey || event.target !== this.frame) return;
    event.preventDefault();
    moved(...move.map(step => step * (event.shiftKey ? 10 : 1)));
  }

  ask(pane) {
    this.slot.ask(copyOf(pane)); // controls go on changing the pane
  }

  show(data, body) {
    Object.assign(this, { last: data, lastBody: body });
    this.frame.classList.remove("stale");
    this.error.hidden = true;
    this.image.src = data.canvas;
    this.image.hidden = false;
    this.first.hidden = true;
    this.image.classList.toggle("small", data.side < 256);
    this.image.alt = `class ${data.class}, instance ${data.instance} of ${body.recipe}`;
    this.title.textContent = `${this.name}: ${body.recipe}`;
    this.#list(data, body);
    this.python.textContent = `import gpurender as gr\n\nrecipe = ${data.python}`;
    this.json.textContent = data.json;
    this.views.hidden = data.views.length === 0;
    this.views.firstElementChild.textContent =
      `The same sample as ${body.augment} shows it in epochs 0 to ${data.views.length - 1}${body.fresh ? ", with a new canvas in each" : ""}`;
    this.strip.replaceChildren(...data.views.map((url, i) => make("img", { src: url, alt: `augmented view of epoch ${i}`, title: `epoch ${i}` })));
  }

  #list(data, body) {
    const label = Array.isArray(data.label) ? data.label.join(", ") : String(data.label);
    const paper = data.paper.split("; ").flatMap((text, i) => { // a mixture has several
      const [, words, link] = LINK.exec(text) ?? [null, text, null];
      const address = link && make("a", { href: link, target: "_blank", rel: "noreferrer" }, link.replace("https://", ""));
      return [i ? "; " : "", words, ...(address ? [" ", address] : [])];
    });
    const rows = [
      ["shown", [`class ${data.class}, instance ${data.instance}: sample ${data.sample.toLocaleString("en")}, label ${label}`]],
      ["size", [data.size]],
      ["drawn in", [`${data.milliseconds < 10 ? data.milliseconds : Math.round(data.milliseconds)} ms`]],
      ["fingerprint", [make("code", { title: data.fingerprint }, data.fingerprint)]],
      ["after", paper],
    ];
    this.list.replaceChildren(...rows.flatMap(([name, parts]) => [make("dt", {}, name), make("dd", {}, ...parts)]));
    this.list.dataset.fingerprint = data.fingerprint;
  }

  // Keep the last good picture, and say why there is no newer one.
  refuse(text) {
    this.frame.classList.add("stale");
    this.error.textContent = text;
    this.error.hidden = false;
    this.first.hidden = true;
  }
}
