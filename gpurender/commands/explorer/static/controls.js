// Controls: one for each parameter, made of what the server says of it. A control calls `changed(name, text)` with a
// text of JSON, or `null`: the parameter is left out and has its default. What is not allowed is the server's to say.

import { make } from "./dom.js";
import { rounded, scale } from "./scale.js";

const STEPS = 1000; // of a slider
const EXACT = 2 ** 53; // beyond, a slider would not hit the integers
const MOST_SIDE = 384; // pixels: of a picture that is taken into a recipe, and so into the address

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// What all kinds share: name, reset, help, error.
class Control {
  constructor(parameter, changed) {
    this.parameter = parameter;
    this.name = parameter.name;
    this.id = `p-${parameter.name}`;
    this.changed = text => changed(this.name, text);
    this.reset = make("button", {
      type: "button", class: "reset", hidden: true, title: "back to the default",
      "aria-label": `${this.name}: back to the default`, onclick: () => { this.changed(null); this.focus(); },
    }, "↺");
    this.error = make("p", { class: "error", id: `e-${this.name}`, role: "alert", hidden: true });
    const help = make("p", { class: "help", id: `h-${this.name}` }, parameter.help);
    this.head = make("div", { class: "head" }, make("label", { for: this.id }, this.name), this.reset);
    this.element = make("div", { class: "control", "data-name": this.name }, this.head);
    this.build();
    this.element.append(this.error, help);
  }

  get described() {
    return `h-${this.name} e-${this.name}`;
  }

  focus() {
    this.element.querySelector("input, select, textarea")?.focus();
  }

  refuse(text) {
    this.error.textContent = text ?? "";
    this.error.hidden = !text;
    this.element.classList.toggle("wrong", Boolean(text));
    const input = this.element.querySelector("input, select, textarea");
    if (text) input?.setAttribute("aria-invalid", "true");
    else input?.removeAttribute("aria-invalid");
  }

  // Show a value, a text of JSON; `undefined`: one that is too long to be sent back.
  show(text, stated) {
    this.reset.hidden = !stated;
    this.element.classList.toggle("stated", stated);
    this.fill(text);
  }
}

// One number or a pair of them: a field and a slider each. The field takes any JSON.
class Numbers extends Control {
  build() {
    const { kind, low, high } = this.parameter;
    this.whole = kind.startsWith("integer");
    this.pair = kind.endsWith("s");
    this.scales = [];
    const parts = this.pair ? ["low", "high"] : [""];
    this.fields = parts.map((part, i) => make("input", {
      type: "text", inputmode: this.whole ? "numeric" : "decimal", spellcheck: "false", autocomplete: "off",
      id: i ? `${this.id}-${i}` : this.id, class: this.pair ? "half" : "", "aria-describedby": this.described,
      "aria-label": part ? `${this.name}, ${part}` : null, readonly: low === high,
      oninput: () => this.typed(), onkeydown: event => this.step(event, i),
    }));
    this.reset.before(...this.fields);
    if (low === null || low === high) return;
    if (high > EXACT) {
      this.reset.before(make("button", {
        type: "button", class: "another", title: "another one", "aria-label": `another ${this.name}`,
        onclick: () => this.changed(String(crypto.getRandomValues(new Uint32Array(1))[0])),
      }, "⚄"));
      return;
    }
    this.sliders = parts.map((part, i) => make("input", {
      type: "range", min: "0", max: String(STEPS), step: "1", "aria-describedby": this.described,
      "aria-label": `${this.name}${part && `, ${part}`}, slider`, oninput: () => this.slid(i),
    }));
    this.element.append(...this.sliders);
  }

  typed() {
    const texts = this.fields.map(field => field.value.trim());
    if (texts.every(text => text === "")) this.changed(null);
    else if (this.pair && texts.every(text => text !== "")) this.changed(`[${texts.join(", ")}]`);
    else if (!this.pair) this.changed(texts[0]);
  }

  // Up and down change the number in a field by one, or by a part of it.
  step(event, i) {
    const sign = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const value = parsed(this.fields[i].value);
    if (!sign || typeof value !== "number" || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const size = this.whole ? 1 : 10 ** (Math.floor(Math.log10(Math.abs(value) || 0.1)) - 1);
    const next = this.whole && Math.abs(value) > EXACT ? value : Number((value + sign * size).toPrecision(12));
    this.set(i, Math.min(this.parameter.high, Math.max(this.parameter.low, next)));
  }

  slid(i) {
    const { low, high } = this.parameter;
    let value = this.scales[i].value(Number(this.sliders[i].value) / STEPS);
    value = this.whole ? Math.round(value) : rounded(value, high - low);
    const now = parsed(this.fields[i].value);
    if (value === now && this.whole) { // a step of the slider that is smaller than an integer
      const before = Math.round(this.scales[i].position(now) * STEPS);
      value += Math.sign(Number(this.sliders[i].value) - before);
    }
    this.set(i, Math.min(high, Math.max(low, value)));
  }

  set(i, value) {
    this.fields[i].value = String(value);
    if (this.pair) { // the other end goes along
      const other = parsed(this.fields[1 - i].value);
      if (typeof other !== "number" || (i ? other > value : other < value)) this.fields[1 - i].value = String(value);
    }
    this.place();
    this.typed();
  }

  fill(text) {
    const value = parsed(text);
    const texts = Array.isArray(value) && this.pair ? halves(text) : [value === null || text === undefined ? "" : text];
    this.fields.forEach((field, i) => {
      if (field !== document.activeElement || parsed(field.value) === undefined) field.value = texts[i] ?? "";
      field.placeholder = value === null ? "off" : "";
    });
    this.place();
  }

  place() {
    this.sliders?.forEach((slider, i) => {
      const { low, high } = this.parameter;
      const value = parsed(this.fields[i].value);
      const number = typeof value === "number" ? value : null;
      this.scales[i] ??= scale(low, high, number === null && !this.pair ? null : this.anchor());
      if (slider !== document.activeElement || slider.matches(":not(:active)")) {
        slider.value = String(Math.round(this.scales[i].position(number ?? low) * STEPS));
      }
      slider.setAttribute("aria-valuetext", number === null ? "off" : String(number));
    });
  }

  // The value around which the slider is fine.
  anchor() {
    const numbers = this.fields.map(field => parsed(field.value)).filter(value => typeof value === "number");
    return numbers.length ? numbers.reduce((sum, value) => sum + value, 0) / numbers.length : null;
  }

  bound(parameter) {
    if (parameter.low !== this.parameter.low || parameter.high !== this.parameter.high) this.scales = [];
    this.parameter = parameter;
  }
}

// The two numbers of a pair as they are written.
function halves(text) {
  return text.replace(/^\[|\]$/g, "").split(",").map(part => part.trim());
}

const TABLE = "table …";

class Choice extends Control {
  build() {
    const { choices, off, more } = this.parameter;
    this.select = make("select", { id: this.id, "aria-describedby": this.described, onchange: () => this.picked() });
    for (const word of choices) this.select.append(make("option", { value: JSON.stringify(word) }, word));
    if (off) this.select.append(make("option", { value: "null" }, "none"));
    if (more) this.select.append(make("option", { value: TABLE }, TABLE));
    this.reset.before(this.select);
    this.area = make("textarea", {
      rows: "3", spellcheck: "false", hidden: true, "aria-label": `${this.name} as JSON`, onchange: () => this.changed(this.area.value),
    });
    this.element.append(this.area);
  }

  picked() {
    this.area.hidden = this.select.value !== TABLE;
    if (this.area.hidden) this.changed(this.select.value);
    else this.area.focus();
  }

  fill(text) {
    const known = [...this.select.options].some(option => option.value === text);
    if (known) this.select.value = text;
    else if (this.parameter.more) this.select.value = TABLE;
    this.area.hidden = known || !this.parameter.more;
    if (!known && text !== undefined && this.area !== document.activeElement) this.area.value = text;
  }
}

class Switch extends Control {
  build() {
    this.box = make("input", {
      type: "checkbox", id: this.id, "aria-describedby": this.described, onchange: () => this.changed(String(this.box.checked)),
    });
    this.reset.before(this.box);
  }

  fill(text) {
    this.box.checked = text === "true";
  }
}

// Any JSON: drawn as soon as it is whole.
class Text extends Control {
  build() {
    this.area = make("textarea", {
      id: this.id, rows: "2", spellcheck: "false", placeholder: "none", "aria-describedby": this.described,
      oninput: () => { if (parsed(this.area.value) !== undefined) this.typed(); }, onchange: () => this.typed(),
    });
    this.element.append(this.area);
  }

  typed() {
    this.changed(this.area.value.trim() === "" ? null : this.area.value);
  }

  fill(text) {
    if (this.area === document.activeElement || text === undefined) return;
    this.area.value = text === "null" ? "" : text;
    this.area.rows = this.area.value.length > 60 ? 5 : 2;
  }
}

class Picture extends Control {
  build() {
    this.input = make("input", {
      type: "file", id: this.id, accept: "image/*", "aria-describedby": this.described, onchange: () => this.picked(),
    });
    this.element.append(this.input);
  }

  async picked() {
    const [file] = this.input.files;
    if (!file) return;
    try {
      const image = await createImageBitmap(file);
      const side = Math.min(image.width, image.height);
      const size = Math.min(side, MOST_SIDE);
      const canvas = make("canvas", { width: size, height: size });
      const left = (image.width - side) / 2, top = (image.height - side) / 2;
      canvas.getContext("2d").drawImage(image, left, top, side, side, 0, 0, size, size);
      this.changed(JSON.stringify(canvas.toDataURL("image/png")));
    } catch {
      this.refuse(`${this.name}: this browser cannot read ${file.name} as a picture`);
    }
  }

  fill() {}
}

const KINDS = {
  integer: Numbers, real: Numbers, integers: Numbers, reals: Numbers, choice: Choice, boolean: Switch, picture: Picture,
  text: Text,
};

export const makeControl = (parameter, changed) => new (KINDS[parameter.kind] ?? Text)(parameter, changed);

// The controls of a recipe in a fieldset; made anew only where the recipe has other parameters.
export class Controls {
  constructor(fieldset, changed) {
    this.fieldset = fieldset;
    this.changed = changed;
    this.known = new Map();
    this.signature = "";
  }

  show(parameters, values, stated) {
    const signature = JSON.stringify(parameters.map(({ name, kind, choices }) => [name, kind, choices]));
    if (signature !== this.signature) {
      const focused = document.activeElement?.id;
      this.signature = signature;
      for (const control of this.known.values()) control.element.remove();
      this.known = new Map(parameters.map(each => [each.name, makeControl(each, this.changed)]));
      this.fieldset.append(...Array.from(this.known.values(), control => control.element));
      if (focused?.startsWith("p-")) document.getElementById(focused)?.focus();
    }
    for (const parameter of parameters) {
      const control = this.known.get(parameter.name);
      control.bound?.(parameter);
      control.show(values[parameter.name], parameter.name in stated);
    }
  }

  // Put a refusal beside the control that it names; returns whether there is one.
  refuse(name, text) {
    for (const control of this.known.values()) control.refuse(control.name === name ? text : null);
    return this.known.has(name);
  }
}
