"use strict";
// Texts come from models and may be hostile: they are only ever set as textContent.
(() => {
  const PAGE = 20;
  const rows = JSON.parse(document.getElementById("data").textContent);
  if (!rows.length) return;
  const at = (id) => document.getElementById(id);
  const selects = [...document.querySelectorAll("#filters select")];
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const plain = (text) => text.toLowerCase();
  const sought = rows.map((row) => plain([row.id, ...row.texts.map((one) => one[1])].join("\n")));
  let start = 0;
  let found = rows;

  for (const select of selects) {
    const counts = new Map();
    for (const row of rows) counts.set(row[select.dataset.key], (counts.get(row[select.dataset.key]) || 0) + 1);
    select.append(new Option("all", "all:"));
    for (const [value, count] of counts) select.append(new Option(`${value} (${count})`, `is:${value}`));
  }

  const texts = (row) => row.texts.map(([name, text]) => {
    const block = make("div", "text");
    const body = make("pre", "", text || "(empty)");
    body.dir = "auto";
    block.append(make("h4", "", name), body);
    return block;
  });

  const card = (row) => {
    const box = make("article", "sample");
    const head = make("p", "head");
    head.append(make("span", `outcome ${row.outcome}`, row.outcome.replace("_", " ")));
    for (const part of [row.stage, row.suite, row.level === "none" ? "" : `level ${row.level}`]) {
      if (part) head.append(make("span", "", part));
    }
    head.append(make("code", "", row.id));
    const facts = make("p", "verdict");
    for (const [name, value] of row.facts) {
      const fact = make("span");
      fact.append(make("i", "", name), ` ${value}`);
      facts.append(fact);
    }
    box.append(head, facts);
    if (!row.fold) {
      box.append(...texts(row));
      return box;
    }
    const fold = make("details", "fold");
    fold.append(make("summary", "", "Harmful prompt: open to read it and the completion"));
    fold.addEventListener("toggle", () => {
      if (fold.open && fold.childElementCount === 1) fold.append(...texts(row));
    });
    box.append(fold);
    return box;
  };

  const show = () => {
    const end = Math.min(start + PAGE, found.length);
    at("rows").replaceChildren(...found.slice(start, end).map(card));
    at("count").textContent = found.length ? `${start + 1}-${end} of ${found.length}` : "no sample fits";
    at("back").disabled = start === 0;
    at("next").disabled = end >= found.length;
  };

  const filter = () => {
    const words = plain(at("search").value.trim());
    found = rows.filter((row, index) => selects.every((select) =>
      select.value === "all:" || select.value === `is:${row[select.dataset.key]}`) && sought[index].includes(words));
    start = 0;
    show();
  };
  const turn = (step) => {
    start += step * PAGE;
    show();
    at("filters").scrollIntoView();
  };
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("filters").addEventListener("input", filter);
  at("back").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  show();
})();

(() => {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const id of links.keys()) watch.observe(document.getElementById(id));
})();
