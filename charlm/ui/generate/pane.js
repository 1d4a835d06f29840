// One text that is being written: asks the server for it, keeps what has come, and shows as much of it as has
// been played.
window.charlm.pane = (() => {
  const { el, glyphs, guesses } = window.charlm;
  const TINTED_NATS = 5;
  const LEAST_OF_A_BRANCH = 30;

  const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);

  // Reads an answer line by line: take(kind, rest) hears of each, kind being its first character.
  async function readLines(response, take) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) take(line[0], line.slice(1));
    }
  }

  async function ask(route, body, signal) {
    const headers = { "Content-Type": "application/json" };
    const asked = { method: "POST", body: JSON.stringify(body), headers, signal };
    const response = await fetch(`generate/${route}`, asked).catch(() => {
      throw new Error("The server cannot be reached.");
    });
    if (response.ok) return response;
    const told = await response.json().catch(() => ({}));
    throw Object.assign(new Error(told.error ?? "The server did not answer."), { unknown: told.unknown });
  }

  // A text as it is written for the first time, or along a path of branches.
  const newVersion = (chars, path) => ({
    chars,
    path,
    spans: [],
    played: 0,
    place: 0,
    over: false,
    stopped: false,
  });

  const textOf = (chars) => chars.map(({ char }) => char).join("");

  // A mean loss in words, and what it means.
  function lossOf(name, losses) {
    if (!losses.length) return "";
    const loss = sum(losses) / losses.length;
    const among = Math.exp(loss).toFixed(loss < 2.3 ? 1 : 0);
    return `${name} ${loss.toFixed(2)} nats per character, as good as guessing among ${among} characters`;
  }

  // `asked` is what a text is written from: prompt, model, temperature, topK, topP, length and seed. `changed()`
  // is called when something has come.
  function pane(asked, changed) {
    const title = el("strong");
    const losses = el("p", { class: "losses" });
    const versions = el("div", { class: "versions", role: "group", "aria-label": "Branches" });
    const promptText = el("span", { class: "prompt" });
    const page = el("div", {
      class: "page",
      translate: "no",
      tabindex: "0",
      role: "region",
      "aria-label":
        "The text: Space plays and pauses, the arrow keys, Home and End go from character to character",
    });
    const node = el("section", { class: "pane typed" }, title, versions, page, losses);
    const state = {
      asked,
      node,
      page,
      head: null,
      promptGuesses: [],
      version: newVersion([], []),
      error: null,
    };
    state.all = [state.version];
    let writing = null;
    let following = true; // Whether whoever reads is at the end.

    promptText.append(...[...asked.prompt].map((char, i) => el("span", { "data-p": i, text: char })));
    page.append(promptText);
    page.addEventListener("scroll", () => {
      following = page.scrollHeight - page.scrollTop - page.clientHeight < 40;
    });

    function tint(span, guess) {
      span.style.setProperty("--surprise", Math.min(1, guesses.surprise(guess) / TINTED_NATS).toFixed(3));
    }

    function heard(version, kind, rest) {
      if (kind === "{") begin(JSON.parse(kind + rest));
      else if (kind === "w") version.place = +rest;
      else if (kind === "g") {
        version.place = 0;
        for (const guess of guesses.decode(rest, state.head.chars))
          version.chars.push({ char: guess.candidates[guess.place].char, guess });
      } else if (rest !== "nd") throw new Error(rest);
      changed();
    }

    function begin(head) {
      state.head = { ...state.head, ...head, chars: [...head.vocab] };
      title.textContent = head.title;
    }

    // Writes on with a version of the text, to its length.
    async function write(version, seed) {
      writing?.abort();
      writing = new AbortController();
      const mine = writing;
      // Of a text that goes on, as much as the model reads.
      const read = state.head?.block_size ?? Infinity;
      const body = {
        prompt: [...asked.prompt, ...textOf(version.chars)].slice(-read).join(""),
        model: asked.model,
        temperature: asked.temperature,
        top_k: asked.topK,
        top_p: asked.topP,
        // What if at the end of a text goes on, too.
        length: Math.max(asked.length - version.chars.length, version.path.length && LEAST_OF_A_BRANCH),
        seed,
      };
      try {
        if (body.length > 0)
          await readLines(await ask("write", body, mine.signal), (...line) => heard(version, ...line));
      } catch (error) {
        if (!mine.signal.aborted) state.error = error;
        version.stopped = true;
      }
      version.over = true;
      changed();
    }

    async function score() {
      try {
        const answer = await ask("score", { prompt: asked.prompt, model: asked.model });
        await readLines(answer, (kind, rest) => {
          if (kind === "{") begin(JSON.parse(kind + rest));
          if (kind === "g") state.promptGuesses = guesses.decode(rest, state.head.chars);
        });
      } catch (error) {
        state.error ??= error;
      }
      for (const [i, guess] of state.promptGuesses.entries()) tint(promptText.children[i + 1], guess);
      tellLosses();
      changed();
    }

    function tellLosses() {
      const written = state.version.chars.filter(({ forced }) => !forced).map(({ guess }) => guess);
      losses.replaceChildren(
        ...[
          lossOf("Prompt:", state.promptGuesses.map(guesses.surprise)),
          lossOf("Text:", written.map(guesses.surprise)),
        ]
          .filter(Boolean)
          .map((text) => el("span", { text })),
      );
    }

    // Shows the first n characters; those that were shown before and come after stay, paler.
    function play(n) {
      const { chars, spans, played } = state.version;
      const end = Math.min(n, chars.length);
      while (spans.length < end) {
        const { char, guess, forced } = chars[spans.length];
        const span = el("span", { class: forced ? "ch forced" : "ch", "data-i": spans.length, text: char });
        tint(span, guess);
        spans.push(span);
        page.append(span);
      }
      for (let i = Math.min(end, played); i < Math.max(end, played); i++)
        spans[i].classList.toggle("ahead", i >= end);
      page.querySelector(".now")?.classList.remove("now");
      spans[end - 1]?.classList.add("now");
      state.version.played = end;
      if (following && n > played) page.scrollTop = page.scrollHeight;
      else spans[end - 1]?.scrollIntoView({ block: "nearest" });
      if (end === chars.length) tellLosses();
    }

    // Takes the text back to its first `at` characters, puts `char`, and writes on.
    function branch(at, char) {
      const old = state.version;
      const { guess } = old.chars[at];
      const place = guess.candidates.findIndex((candidate) => candidate.char === char);
      const chars = [...old.chars.slice(0, at), { char, guess: { ...guess, place }, forced: true }];
      const path = [...old.path.filter(([i]) => i < at), [at, char]];
      const version = newVersion(chars, path);
      if (!old.over) old.stopped = true;
      state.all.push(version);
      show(version, at + 1);
      write(version, state.head.seed);
    }

    function show(version, n) {
      for (const span of state.version.spans) span.remove();
      state.version = version;
      page.append(...version.spans);
      play(n);
      listVersions();
      changed();
    }

    function listVersions() {
      if (state.all.length < 2) return;
      const buttons = state.all.map((version, i) => {
        const onclick = () => show(version, version.chars.length);
        const attributes = { type: "button", onclick, "aria-pressed": `${version === state.version}` };
        if (!version.path.length) return el("button", attributes, "1: as written");
        const [at, char] = version.path.at(-1);
        return el("button", attributes, `${i + 1}: `, glyphs(char), ` at ${at + 1}`);
      });
      versions.replaceChildren(...buttons);
    }

    function stop() {
      writing?.abort();
    }

    // The prompt and the first n characters after it.
    const text = (n) => asked.prompt + textOf(state.version.chars.slice(0, n));
    return Object.assign(state, {
      write: () => write(state.version, asked.seed),
      score,
      play,
      branch,
      stop,
      text,
    });
  }

  return pane;
})();
