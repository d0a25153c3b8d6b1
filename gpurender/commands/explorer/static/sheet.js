// The contact sheet: classes x instances as they are scrolled to. Only the cells on screen, and some around them, exist;
// they are drawn a few at a time, the nearest first, and never more than one request at once.

import { byId, make } from "./dom.js";
import { Slot } from "./server.js";

const GAP = 4; // pixels
const NAME = 64; // width of the column of names
const FARTHEST = 12e6; // pixels: a browser lays out no longer element
const AROUND = 0.5; // screens around the visible one that are drawn, too
const PART = 24; // pictures of a request
const KEPT = 3000; // pictures kept
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-10, 0], PageDown: [10, 0] };

export class Sheet {
  // `chosen(class, instance)`: a picture was chosen; `scrolled(row)`.
  constructor({ chosen, scrolled }) {
    this.scroller = byId("scroller");
    this.field = byId("field");
    this.about = byId("sheet-about");
    this.status = byId("sheet-status");
    this.chosen = chosen;
    this.pictures = new Map(); // by "class,instance"
    this.elements = new Map(); // by place
    this.recipe = null;
    this.side = 96;
    this.slot = new Slot("api/sheet", "sheet", {
      answered: (data, body, key) => this.#arrived(data, body, key),
      refused: data => { this.status.textContent = data.error; },
    });
    this.scroller.addEventListener("scroll", () => {
      this.#lay();
      clearTimeout(this.still);
      this.still = setTimeout(() => scrolled(this.row), 200);
    }, { passive: true });
    this.scroller.addEventListener("keydown", event => this.#key(event));
    new ResizeObserver(() => { if (this.recipe) this.#measure(); }).observe(this.scroller);
  }

  get row() {
    return Math.floor(this.scroller.scrollTop / (this.pitch || 1));
  }

  // Show a recipe: `data` as it was answered, `body` as it was asked for.
  show(body, data, side) {
    const recipe = { recipe: body.recipe, set: { ...body.set }, augment: body.augment };
    const key = JSON.stringify([recipe, side]);
    this.at = [data.class, data.instance];
    if (key !== this.key) {
      this.key = key;
      this.recipe = recipe;
      this.side = side;
      this.pictures.clear();
      this.status.textContent = "";
      Object.assign(this, { classes: data.classes, instances: data.most, brightness: data.brightness });
      this.#measure();
    } else {
      this.#lay();
    }
  }

  scrollTo(row) {
    this.scroller.scrollTop = row * this.pitch;
  }

  #measure() {
    const row = this.pitch ? this.row : 0;
    this.pitch = this.side + GAP;
    this.single = this.instances === 1; // then the classes fill the rows
    const width = this.scroller.clientWidth;
    this.left = this.single ? GAP : NAME;
    const most = Math.floor(FARTHEST / this.pitch);
    this.columns = this.single ? Math.max(1, Math.floor((width - GAP) / this.pitch)) : Math.min(this.instances, most);
    const rows = this.single ? Math.ceil(this.classes / this.columns) : this.classes;
    this.rows = Math.min(rows, most);
    const plan = String([this.single, this.columns, this.classes, this.rows, this.pitch]);
    this.field.style.height = `${this.rows * this.pitch + GAP}px`;
    this.field.style.width = this.single ? "100%" : `${this.left + this.columns * this.pitch}px`;
    const cut = rows > most ? `, the first ${most.toLocaleString("en")} rows of them` : "";
    this.about.textContent = this.single
      ? `${this.classes.toLocaleString("en")} classes, one image each${cut}`
      : `${this.classes.toLocaleString("en")} classes down${cut}, ${this.instances.toLocaleString("en")} instances across`;
    if (plan !== this.plan) {
      this.plan = plan;
      this.field.replaceChildren();
      this.elements.clear();
      this.scroller.scrollTop = row * this.pitch;
    }
    for (const element of this.elements.values()) element.classList.add("old"); // until its new picture has come
    this.#lay();
  }

  #cellAt(row, column) {
    const number = row * this.columns + column;
    return this.single ? (number < this.classes ? [number, 0] : null) : [row, column];
  }

  // The places on screen, and around it.
  #places() {
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.scroller;
    const first = Math.max(0, Math.floor((scrollTop - AROUND * clientHeight) / this.pitch));
    const last = Math.min(this.rows - 1, Math.floor((scrollTop + (1 + AROUND) * clientHeight) / this.pitch));
    const left = Math.max(0, Math.floor((scrollLeft - AROUND * clientWidth) / this.pitch));
    const right = Math.min(this.columns - 1, Math.floor((scrollLeft + (1 + AROUND) * clientWidth) / this.pitch));
    const places = [];
    for (let row = first; row <= last; row++) {
      if (!this.single) places.push([row, -1]);
      for (let column = left; column <= right; column++) if (this.#cellAt(row, column)) places.push([row, column]);
    }
    return places;
  }

  #lay() {
    if (!this.recipe || !this.scroller.clientHeight) return;
    const places = this.#places();
    const wanted = new Set(places.map(String));
    for (const [place, element] of this.elements) {
      if (!wanted.has(place)) {
        element.remove();
        this.elements.delete(place);
      }
    }
    const left = this.scroller.scrollLeft;
    for (const [row, column] of places) {
      const place = String([row, column]);
      if (!this.elements.has(place)) this.elements.set(place, this.#element(row, column));
      if (column < 0) this.elements.get(place).style.left = `${left}px`;
      else this.#fill(this.elements.get(place), this.#cellAt(row, column));
    }
    this.#ask(places);
  }

  #element(row, column) {
    const element = column < 0
      ? make("div", { class: "name" }, String(row))
      : make("button", { type: "button", class: "cell", tabindex: "-1", onclick: () => this.#choose(...this.#cellAt(row, column)) });
    element.style.top = `${GAP + row * this.pitch}px`;
    element.style.height = `${this.side}px`;
    element.style.left = `${column < 0 ? 0 : this.left + column * this.pitch}px`;
    element.style.width = `${column < 0 ? NAME : this.side}px`;
    this.field.append(element);
    return element;
  }

  #fill(element, [label, instance]) {
    const chosen = label === this.at[0] && instance === this.at[1];
    element.classList.toggle("chosen", chosen);
    const url = this.pictures.get(`${label},${instance}`);
    if (url === undefined || element.dataset.shown === `${this.key}${label},${instance}`) return;
    element.dataset.shown = `${this.key}${label},${instance}`;
    element.classList.remove("old");
    element.classList.toggle("none", url === null);
    element.disabled = url === null;
    const name = this.single ? make("span", {}, String(label)) : null;
    if (url === null) {
      element.replaceChildren();
      return;
    }
    const image = make("img", { src: url, alt: `class ${label}, instance ${instance}`, draggable: "false" });
    image.style.filter = this.recipe.augment || this.brightness === 1 ? "" : `brightness(${this.brightness})`;
    element.replaceChildren(image, ...(name ? [name] : []));
  }

  // Ask for what is missing: what is on screen first, as one reads, then what is around it.
  #ask(places) {
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.scroller;
    const outside = (place, begin, length) => Math.max(0, begin / this.pitch - place - 1, place - (begin + length) / this.pitch);
    const far = ([row, column]) => outside(row, scrollTop, clientHeight) + outside(column, scrollLeft, clientWidth - this.left);
    const missing = places.filter(([row, column]) => column >= 0 && !this.pictures.has(String(this.#cellAt(row, column))));
    if (!missing.length) return;
    missing.sort((one, other) => far(one) - far(other)); // a stable sort
    const cells = missing.slice(0, PART).map(place => this.#cellAt(...place));
    this.slot.ask({ ...this.recipe, cells, side: this.side * (devicePixelRatio > 1.5 && this.side <= 128 ? 2 : 1) }, this.key);
  }

  #arrived(data, body, key) {
    if (key !== this.key) return;
    this.status.textContent = "";
    body.cells.forEach((cell, i) => this.pictures.set(String(cell), data.pictures[i]));
    while (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
    this.#lay();
  }

  #choose(label, instance) {
    this.at = [label, instance];
    this.#lay();
    this.chosen(label, instance);
  }

  // Keys of the sheet choose a picture and bring it into view.
  #key(event) {
    const step = STEPS[event.key];
    if (!step || !this.recipe || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    let [label, instance] = this.at;
    if (this.single) label += step[0] * this.columns + step[1];
    else [label, instance] = [label + step[0], instance + step[1]];
    label = Math.min(this.classes - 1, Math.max(0, label));
    instance = Math.min(this.instances - 1, Math.max(0, instance));
    this.#choose(label, instance);
    const row = this.single ? Math.floor(label / this.columns) : label;
    const top = row * this.pitch, left = this.single ? 0 : instance * this.pitch;
    const box = this.scroller;
    box.scrollTop = Math.min(top, Math.max(box.scrollTop, top + this.pitch + GAP - box.clientHeight));
    box.scrollLeft = Math.min(left, Math.max(box.scrollLeft, left + this.left + this.pitch - box.clientWidth));
  }
}
