/* The filter above the ledger of claims: native controls, over the rows that are in the page anyway. */
(() => {
  "use strict";

  const box = document.querySelector(".claims-filter");
  const table = document.querySelector("table.claims-ledger");
  if (!box || !table) return;
  const rows = [...table.tBodies[0].rows];
  const { verdicts, versions, chapters } = JSON.parse(box.querySelector("script").textContent);
  const names = { v1: "version 1", v2: "version 2", ours: "ours" };
  const css = (word) => word.replaceAll(" ", "-");

  function labelled(text, control) {
    const field = document.createElement("div");
    const label = document.createElement("label");
    label.textContent = text;
    control.id = label.htmlFor = `claims-${text.toLowerCase()}`;
    field.append(label, control);
    return field;
  }

  function choice(all, options) {
    const select = document.createElement("select");
    select.append(new Option(all, ""), ...options.map(([value, text]) => new Option(text, value)));
    select.addEventListener("change", show);
    return select;
  }

  const verdict = choice("every verdict", verdicts.map((word) => [`is-${css(word)}`, word]));
  const version = choice("both versions, and ours", versions.map((one) => [`in-${one}`, names[one]]));
  const chapter = choice("every chapter", chapters.map(([stem, title]) => [`of-${stem}`, title]));
  const words = document.createElement("input");
  words.type = "search";
  words.autocomplete = "off";
  words.addEventListener("input", show);
  const reset = document.createElement("button");
  reset.type = "button";
  reset.textContent = "Show all";
  reset.addEventListener("click", () => {
    for (const select of [verdict, version, chapter]) select.value = "";
    words.value = "";
    show();
    words.focus();
  });
  const count = document.createElement("p");
  count.className = "claims-shown";
  count.setAttribute("aria-live", "polite");

  function show() {
    const classes = [verdict, version, chapter].map((select) => select.value).filter(Boolean);
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(classes.every((one) => row.classList.contains(one)) && wanted.every((one) => text.includes(one)));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} claims`;
    reset.disabled = shown === rows.length && !wanted.length && !classes.length;
  }

  /* A link to one claim must find it, whatever is filtered, and shows its evidence. */
  function reveal() {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = row?.querySelector("details");
    if (folded) folded.open = true;
    if (row?.hidden) {
      reset.click();
      row.scrollIntoView();
    }
  }

  box.append(
    labelled("Verdict", verdict),
    labelled("Version", version),
    labelled("Chapter", chapter),
    labelled("Words", words),
    reset,
    count,
  );
  box.setAttribute("role", "search");
  box.setAttribute("aria-label", "Filter the claims");
  box.hidden = false;
  show();
  reveal();
  window.addEventListener("hashchange", reveal);
})();
