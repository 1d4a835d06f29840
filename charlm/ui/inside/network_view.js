// The model as one line a part, from the characters to the scores, with the guess after each part that can be
// read; and the sentence on the part or the guess that is pointed at.
const { el, glyphs, characters, ending, count, percent, heat, walk, thread } = window.charlm;
const root = element.querySelector(".network_view");
const TINT = 0.8; // Dark enough to be seen, light enough to be read on.

const heading = el("h2");
const story = el("div", { class: "story" });
const hint = el("p", { class: "hint", text: "Click a character: what does the model expect after it?" });
const textView = el("div", {
  class: "text",
  role: "listbox",
  "aria-label": "The text: after which character",
  translate: "no",
});
const ends = el("p", { class: "ends", role: "status" });
const strip = el("div", {
  class: "strip",
  role: "group",
  "aria-label": "The parts, and the guess after each",
});
const say = el("p", { class: "say", role: "status" });

function chip({ char, p }, part, guess) {
  return el(
    "button",
    {
      type: "button",
      class: "chip",
      "data-char": char,
      "data-part-index": part,
      "data-guess": guess,
      style: `background: ${heat(TINT * p)}`,
    },
    el("b", {}, glyphs(char)),
    el("i", { text: percent(p) }),
  );
}

function line({ name, shape, parameters, adds, guesses }, i) {
  const facts = `(${shape.join(", ")})${parameters ? ` · ${count(parameters)} parameters` : ""}`;
  const node = el(
    "div",
    { class: "part", "data-part": name },
    el("span", { class: "sign", "aria-hidden": "true", text: i ? (adds ? "+" : "↓") : "" }),
    el(
      "button",
      { type: "button", class: "name", "data-part-index": i },
      el("b", { text: name }),
      " ",
      el("small", { text: facts }),
    ),
  );
  if (guesses.length) node.append(el("div", { class: "guess" }, ...guesses.map((g, k) => chip(g, i, k))));
  return node;
}

// The sentence on an item of the strip, a part or a guess, and the same character wherever it stands.
function point(item) {
  const part = props.value.parts[item.dataset.partIndex];
  const { char, guess } = item.dataset;
  for (const other of strip.querySelectorAll(".chip"))
    other.classList.toggle("target", char !== undefined && other.dataset.char === char);
  if (char === undefined) {
    say.textContent = `${part.name}: ${part.does}. What leaves it has the shape (${part.shape.join(", ")}): batch, characters${part.shape.length > 2 ? ", channels or scores" : ""}.`;
    return;
  }
  const { p, score, total } = part.guesses[guess];
  say.replaceChildren(
    `After ${part.name}: `,
    glyphs(char),
    ` has the score ${score.toFixed(2)}. Softmax over all ${count(props.value.vocab_size)} characters: `,
    `e^${score.toFixed(2)} / e^${total.toFixed(2)} = ${percent(p)}, e^${total.toFixed(2)} being the sum of e^score.`,
  );
}

function choose(item) {
  const i = items().indexOf(item);
  if (i < 0 || i === props.value.place) return;
  thread.pin(props.value.read, i);
  trigger("select");
}

const items = () => [...textView.querySelectorAll(".ch")];

function drawText({ read, place }) {
  const focused = textView.contains(document.activeElement);
  textView.replaceChildren(...characters(read));
  items().forEach((node, i) => {
    node.classList.toggle("target", i === place);
    node.classList.toggle("future", i > place);
    node.setAttribute("aria-selected", i === place);
  });
  textWalk.begin(place);
  if (focused) items()[place].focus({ preventScroll: true });
}

// Which guess is shown, and what came.
function tellGuess({ read, place, came }) {
  const before = ending([...read].slice(0, place + 1).join(""));
  ends.replaceChildren("After ", el("code", {}, glyphs(before)), " the guess is …");
  if (came)
    ends.append(
      " Your text goes on with ",
      el("code", {}, glyphs(came.char)),
      `, to which the model gives ${percent(came.p)}.`,
    );
}

const HINT = "Point at a part or a guess: here is said where it comes from.";

function draw() {
  const v = props.value;
  if (!v?.parts) {
    root.replaceChildren();
    return;
  }
  heading.textContent = `${count(v.total)} parameters, shapes (B, T, C)`;
  story.replaceChildren(...v.story.map((text) => el("p", { text })));
  drawText(v);
  tellGuess(v);
  strip.replaceChildren(...v.parts.map(line));
  say.textContent = HINT;
  steps.begin(0);
  if (!root.firstChild) root.append(heading, hint, textView, ends, strip, say, story);
}

const steps = walk(strip, "button", point);
const textWalk = walk(textView, ".ch", () => {});
textView.addEventListener("click", ({ target }) => choose(target.closest(".ch")));
textView.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  choose(event.target.closest(".ch"));
});
watch("value", draw);
draw();
