// How good the tables are: losses on one scale, what they mean, and what was counted where.
const { el, bar, count } = window.charlm;
const root = element.querySelector(".losses_view");
const NAMES = {
  uniform: "Uniform guess: each character alike",
  learned: "Learned table",
  counted: "Counted table, one added to each count",
};

// e^loss: among how many characters, all alike, one would be as unsure.
function choices(loss) {
  const n = Math.exp(loss);
  return n < 1000 ? n.toFixed(2) : n.toPrecision(4);
}

function row(name, loss, largest, vocabSize) {
  const formula = name === "uniform" ? `= ln ${count(vocabSize)}: ` : "";
  const node = bar({
    label: NAMES[name],
    share: loss / largest,
    value: loss.toFixed(3),
    "data-loss": name,
  });
  node.append(
    el("span", { class: "choices", text: `${formula}as unsure as among ${choices(loss)} characters` }),
  );
  return node;
}

function sentences({ validation, training, zeros, cells }) {
  const example = validation.learned ?? validation.uniform;
  const said = [
    "Nats per character on the validation split, which no table was made from: lower is better. " +
      `A loss of ${example.toFixed(3)} is as unsure as a choice among e^${example.toFixed(3)} = ${choices(example)} characters that are all alike.`,
  ];
  if (zeros && validation.counted)
    said.push(
      `${count(zeros)} of the ${count(cells)} raw counts of the training split are 0: ` +
        "a single such pair in the validation split makes the loss infinite. So one is added to each count here.",
    );
  said.push(
    "On the training split, no bigram table beats the raw counts: their loss there is " +
      `${training.counted.toFixed(4)}, that of the learned table ${training.learned.toFixed(4)}.`,
  );
  return said;
}

function draw() {
  const v = props.value;
  if (!v?.validation) {
    root.replaceChildren();
    return;
  }
  const losses = Object.entries(v.validation);
  const largest = Math.max(...losses.map(([, loss]) => loss));
  const [first, ...others] = sentences(v);
  root.replaceChildren(
    el("h2", { text: "How good is it? The validation loss" }),
    el("p", { text: first }),
    ...losses.map(([name, loss]) => row(name, loss, largest, v.vocab_size)),
    ...others.map((text) => el("p", { class: "hint", text })),
  );
}
watch("value", draw);
draw();
