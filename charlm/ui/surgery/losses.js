// What an operation does to the loss: both losses as bars on one axis, and the bigram's as a line across them.
window.charlm.lossBars = () => {
  const { el, bar } = window.charlm;
  const node = el("section", { class: "loss-bars" });
  const told = el("p", { class: "told", role: "status" });
  const rows = el("div");
  const key = el("p", { class: "hint" });
  node.append(el("h3", { text: "What does it cost?" }), told, rows, key);

  const change = (before, after) => `${after < before ? "−" : "+"}${Math.abs(after - before).toFixed(3)}`;
  const among = (loss) => Math.exp(loss).toFixed(loss < 2.3 ? 1 : 0);

  // “Loss 1.470 → 2.310 nats per character, Δ +0.840”
  const inShort = ({ before, after }) =>
    `Loss ${before.toFixed(3)} → ${after.toFixed(3)} nats per character, Δ ${change(before, after)}`;

  function inWords({ before, after, bigram }) {
    const by = Math.abs(after - before);
    if (by < 0.0005) return "The loss stays the same: on this text, nothing is missed.";
    const changes = `The loss ${after < before ? "falls" : "grows"} by ${by.toFixed(3)} nats per character.`;
    const unsure = `Before, the model was as unsure as among ${among(before)} characters; now, as among ${among(after)}`;
    if (bigram === null || after < bigram) return `${changes} ${unsure}.`;
    return `${changes} ${unsure}: a bigram, which sees one character only, does better.`;
  }

  function show(losses) {
    const { before, after, bigram, excerpt } = losses;
    const most = 1.05 * Math.max(before, after, bigram ?? 0);
    const mark = bigram === null ? null : bigram / most;
    told.textContent = inWords(losses);
    rows.replaceChildren(
      bar({ label: "before", share: before / most, value: before.toFixed(3), mark, "data-loss": "before" }),
      bar({ label: "after", share: after / most, value: after.toFixed(3), mark, "data-loss": "after" }),
    );
    const line = bigram === null ? "" : `The line is the bigram’s loss, ${bigram.toFixed(3)}. `;
    key.textContent = `${line}Measured on ${excerpt}.`;
  }

  function fail(sentence) {
    told.textContent = sentence;
    rows.replaceChildren();
    key.textContent = "";
  }

  return { node, show, fail, inShort };
};
