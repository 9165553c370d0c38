/* Makes the forms of the page's exercises and grades what is typed or chosen in them, as evidence/exercises.py does. */
(() => {
  "use strict";

  const decode = (code) => JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(code), (c) => c.charCodeAt(0))));

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  /* A number as people type it: 0.25, 0,25, −1e-3 or 1/4; NaN is everything else. */
  function number(text) {
    const parts = text.replace(/\s/g, "").replace(/[−–]/g, "-").replace(",", ".").split("/");
    const plain = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
    if (parts.length > 2 || !parts.every((part) => plain.test(part))) return NaN;
    return parts.map(Number).reduce((above, below) => above / below);
  }

  function field(question) {
    const input = make("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
    function grade() {
      const answer = number(input.value);
      if (!Number.isFinite(answer)) return question.unread;
      if (answer < (question.least ?? -Infinity) || answer > (question.most ?? Infinity)) return question.outside;
      const fits = question.cases.find(([value, tolerance]) => Math.abs(answer - value) <= tolerance);
      return fits ? fits[2] : question.otherwise;
    }
    return { node: make("label", {}, make("span", {}, question.label), input), grade };
  }

  let choices = 0;
  function choice(question) {
    choices += 1;
    const inputs = question.options.map((_, n) => make("input", { type: "radio", name: `choice-${choices}`, value: n }));
    const labels = question.options.map((option, n) => make("label", {}, inputs[n], make("span", {}, option)));
    const node = make("fieldset", {}, make("legend", {}, question.label), ...labels);
    return { node, grade: () => question.said[inputs.findIndex((input) => input.checked)] ?? question.unread };
  }

  function fill(box) {
    const asked = decode(box.dataset.questions).map((question, _, all) => {
      const { node, grade } = (question.options ? choice : field)(question);
      const name = all.length > 1 ? `${question.label}: ` : "";
      const said = make("output", { class: "exercise-said", role: "status", "aria-live": "polite" });
      return { node: make("div", { class: "exercise-question" }, node, said), grade, said, name };
    });
    const button = make("button", { type: "submit" }, "Check");
    const form = make("form", { "aria-label": box.dataset.name }, ...asked.map(({ node }) => node), button);
    form.noValidate = true;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      for (const { grade, said, name } of asked) {
        const text = grade();
        said.textContent = name + text;
        said.classList.toggle("right", text === "Right.");
      }
    });
    box.append(form);
  }

  for (const box of document.querySelectorAll(".exercise")) fill(box);
})();
