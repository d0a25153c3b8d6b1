// Making elements.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== null));
  return element;
}

export const byId = id => document.getElementById(id);

export function say(text) {
  byId("said").textContent = "";
  setTimeout(() => { byId("said").textContent = text; }, 50); // a text that is set twice is read twice
}

export async function copy(text, what, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // an address that is not secure, such as that of another machine
    const area = make("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const before = button.dataset.text ?? (button.dataset.text = button.textContent);
  button.textContent = done ? "Copied" : "Select it below";
  say(done ? `${what} copied` : `${what} could not be copied`);
  setTimeout(() => { button.textContent = before; }, 1500);
}
