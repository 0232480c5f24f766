// What all panels share. It is put in front of each panel's own module; `export default` is theirs.

const stillness = window.matchMedia("(prefers-reduced-motion: reduce)");

// True while the reader's system asks for no motion: then nothing flies, and each frame is drawn at once.
const calm = () => stillness.matches;

// Make an element: make("button", {class: "x", text: "Run", onclick: f, "aria-label": "..."}, child, ...).
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "circle", "line", "text", "title", "polyline", "polygon"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// The line that says in words what the panel shows; it follows `said`.
function status(model) {
  const line = make("div", { class: "dynlab-status", role: "status", "aria-live": "polite" });
  const say = () => { if (line.textContent !== model.get("said")) line.textContent = model.get("said"); };
  model.on("change:said", say);
  say();
  return line;
}

// Tell Python of a press: `handle(panel, content)` there gets the same object.
const tell = (model, content) => model.send(content);
