"use strict";
// Tables sort by the value behind a cell, then back to their own order; cells without one stay last.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], own = [...body.rows], heads = [...table.querySelectorAll("thead th:has(button)")];
  heads.forEach((head, place) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const first = button.dataset.first, second = first === "descending" ? "ascending" : "descending";
      const now = head.getAttribute("aria-sort"), next = now === first ? second : now === second ? null : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      body.append(...(next ? sorted(own, place, next === "descending" ? -1 : 1) : own));
    });
  });
}
function sorted(rows, place, sign) {
  const keyed = rows.map((row) => [row.cells[place].dataset.value, row]);
  const numbers = keyed.every(([value]) => value === undefined || value.trim() !== "" && isFinite(value));
  const compare = numbers ? (a, b) => a - b : (a, b) => a.localeCompare(b);
  keyed.sort(([a], [b]) => a === undefined || b === undefined ? (a === undefined) - (b === undefined) : sign * compare(a, b));
  return keyed.map(([, row]) => row);
}
for (const bar of document.querySelectorAll(".all")) {
  bar.hidden = false;
  for (const button of bar.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      for (const each of document.querySelectorAll("details.model")) each.open = button.dataset.open === "true";
    });
  }
}
// A link to a model opens it.
function open() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", open);
open();
