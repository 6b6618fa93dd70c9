"use strict";
// The table of studies: sorted by its headings, filtered by the words above it.
(() => {
  const theme = document.getElementById("theme");
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const table = document.getElementById("studies-table");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const cell = (row, column) => row.cells[column];

  function value(row, column, numeric) {
    if (!numeric) return cell(row, column).textContent;
    const text = cell(row, column).dataset.value;
    return text === "" ? NaN : Number(text);
  }

  function compare(column, numeric, direction) {
    return (one, other) => {
      const a = value(one, column, numeric), b = value(other, column, numeric);
      if (!numeric) return direction * a.localeCompare(b, undefined, { numeric: true });
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // undefined stays last
      return direction * (a - b);
    };
  }

  [...table.tHead.rows[0].cells].forEach((head, column, heads) => {
    head.querySelector("button").addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      rows.sort(compare(column, head.dataset.kind === "number", rising ? 1 : -1));
      body.append(...rows);
    });
  });

  const find = document.getElementById("find");
  const choices = ["system", "target", "stratum"].map((name) => [name, document.getElementById("filter-" + name)]);
  const count = document.getElementById("count");

  function filter() {
    const word = find.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const wanted = choices.every(([name, choice]) => !choice || !choice.value || row.dataset[name] === choice.value);
      row.hidden = !(wanted && row.textContent.toLowerCase().includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  }

  const system = document.getElementById("filter-system");
  if (system && system.options.length > 1 && !system.options[0].value) system.selectedIndex = 1; // the network first
  [find, ...choices.map(([, choice]) => choice)].forEach((one) => one && one.addEventListener("input", filter));
  filter();
})();
