/* The explorer of the saved sweep: native controls, numbers as the page holds them, and small drawings of them.

   Nothing is computed here but the places of marks. Without this script the static figure above says the same. */
(() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 320;
  const HEIGHT = 200;
  const FRAME = { left: 46, right: 10, top: 10, bottom: 40 };

  function html(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function svg(tag, attributes = {}, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  const percent = (share) => `${100 * share} %`;
  const plain = (number) => String(number).replace("-", "−");

  /* Round places for about four ticks. */
  function ticks(low, high) {
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(Number((i * step).toPrecision(6)));
    return found;
  }

  /* Axes with their labels; returns the drawing and what places a point in it. */
  function axes({ x, y, xTicks, yTicks, xLabel, yLabel, log }) {
    const along = log ? Math.log10 : (v) => v;
    const [x0, x1] = x.map(along);
    const px = (v) => FRAME.left + ((along(v) - x0) / (x1 - x0)) * (WIDTH - FRAME.left - FRAME.right);
    const py = (v) => HEIGHT - FRAME.bottom - ((v - y[0]) / (y[1] - y[0])) * (HEIGHT - FRAME.top - FRAME.bottom);
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
    for (const v of yTicks) {
      picture.append(
        svg("line", { class: "grid", x1: FRAME.left, x2: WIDTH - FRAME.right, y1: py(v), y2: py(v) }),
        svg("text", { x: FRAME.left - 5, y: py(v) + 4, "text-anchor": "end" }, plain(v)),
      );
    }
    for (const v of xTicks) {
      picture.append(svg("text", { x: px(v), y: HEIGHT - FRAME.bottom + 16, "text-anchor": "middle" }, plain(v)));
    }
    picture.append(
      svg("line", { class: "axis", x1: FRAME.left, x2: WIDTH - FRAME.right, y1: py(y[0]), y2: py(y[0]) }),
      svg("text", { x: (FRAME.left + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xLabel),
      svg("text", { x: 12, y: HEIGHT / 2 - 14, "text-anchor": "middle", transform: `rotate(-90 12 ${HEIGHT / 2 - 14})` }, yLabel),
    );
    const marks = svg("g");
    picture.append(marks);
    return { picture, marks, px, py };
  }

  const line = (name, xs, ys, { px, py }) =>
    svg("polyline", { class: name, points: xs.map((x, i) => `${px(x)},${py(ys[i])}`).join(" ") });

  function panel(title, picture) {
    return html("figure", { class: "explorer-panel" }, html("figcaption", {}, title), picture);
  }

  const padded = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return [low - 0.06 * (high - low), high + 0.06 * (high - low)];
  };

  function build(box, number) {
    const data = JSON.parse(box.querySelector("script").textContent);
    const { lams, alphas, protocols, features, measures } = data;
    const everywhere = protocols.flatMap(({ name }) => data.cells[name].flat());

    const at = { ...data.start };
    const here = () => data.cells[at.protocol][at.alpha][at.lam];

    // --- controls
    function slider(key, name, values, shown) {
      const id = `explorer-${number}-${key}`;
      const input = html("input", { id, type: "range", min: 0, max: values.length - 1, step: 1 });
      input.value = at[key];
      const value = html("span", { class: "explorer-value", "aria-hidden": "true" });
      const show = () => {
        value.textContent = shown(values[at[key]]);
        input.setAttribute("aria-valuetext", value.textContent);
      };
      input.addEventListener("input", () => {
        at[key] = Number(input.value);
        show();
        draw();
      });
      show();
      return html("div", { class: "explorer-control" }, html("label", { for: id }, name), value, input);
    }
    const choice = html("fieldset", { class: "explorer-control" }, html("legend", {}, "Protocol"));
    for (const { name, about } of protocols) {
      const id = `explorer-${number}-${name}`;
      const radio = html("input", { id, type: "radio", name: `explorer-${number}-protocol`, value: name });
      radio.checked = name === at.protocol;
      radio.addEventListener("change", () => {
        at.protocol = name;
        draw();
      });
      choice.append(html("div", {}, radio, html("label", { for: id, title: about }, name)));
    }
    const about = html("p", { class: "explorer-about" });

    // --- numbers
    const told = html("p", { class: "explorer-told", "aria-live": "polite" });
    const paperHead = html("th", { scope: "col" }, "the paper’s change");
    const body = html("tbody");
    const spread = data.seeds > 1 ? ["its seeds"] : []; // one seed has no spread to show
    const table = html(
      "table",
      { class: "explorer-numbers" },
      html("caption", {}, `${data.seeds > 1 ? `Means of ${data.seeds} seeds` : "One seed"}, changes against MSE of the same seed`),
      html(
        "thead",
        {},
        html("tr", {}, ...["measure", "MSE", "here", "change", ...spread].map((h) => html("th", { scope: "col" }, h)), paperHead),
      ),
      body,
    );

    // --- drawings
    const lamTicks = [0.0001, 0.001, 0.01, 0.1, 1];
    const overLam = measures.map(({ key, name }) => {
      const own = everywhere.map((cell) => cell[key].change);
      const y = padded([0, ...own, ...data.paper.map((p) => p[key]).filter((v) => v !== undefined)]);
      const drawing = axes({
        x: [0.00007, 1.4],
        y,
        xTicks: lamTicks,
        yTicks: ticks(...y),
        xLabel: "λ",
        yLabel: "change (%)",
        log: true,
      });
      return { key, ...drawing, figure: panel(`${name}, change against MSE`, drawing.picture) };
    });
    const curvesY = padded([...everywhere.map((cell) => cell.curve), ...protocols.map(({ name }) => data.mse[name].curve)].flat());
    const curvesX = [data.x[0], data.x.at(-1)];
    const fitted = axes({
      x: curvesX,
      y: curvesY,
      xTicks: ticks(...curvesX),
      yTicks: ticks(...curvesY),
      xLabel: data.x_label,
      yLabel: data.y_label,
    });
    const bars = features.map((name) => {
      const bar = html("span", { class: "explorer-bar" });
      const value = html("td", { class: "explorer-share" });
      const row = html("tr", {}, html("th", { scope: "row" }, name), value, html("td", { "aria-hidden": "true" }, bar));
      return { row, bar, value };
    });
    const most = Math.max(100, ...everywhere.flatMap((cell) => cell.slopes));
    const slopes = html(
      "table",
      { class: "explorer-slopes" },
      html("caption", {}, "Slope of every feature, in per cent of MSE’s"),
      html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "feature"), html("th", { scope: "col" }, "slope"), html("td"))),
      html("tbody", {}, ...bars.map(({ row }) => row)),
    );

    function draw() {
      const [cell, mse] = [here(), data.mse[at.protocol]];
      const [lam, alpha] = [lams[at.lam], alphas[at.alpha]];
      const printed = data.paper.find((p) => p.lam === lam && p.alpha === alpha);
      const changes = measures.map(({ key, name }) => `${name} ${cell[key].text[1]}`);
      told.textContent = `${at.protocol}, λ = ${lam}, α = ${percent(alpha)}: ${changes.join(", ")} against MSE`;
      about.textContent = protocols.find(({ name }) => name === at.protocol).about;
      paperHead.textContent = printed ? `the paper’s, version ${printed.version}` : "the paper’s";
      body.replaceChildren(
        ...measures.map(({ key, name }) => {
          const own = cell[key].text.slice(0, 2 + spread.length);
          const cells = [mse[key].text, ...own, printed?.[`${key}_text`] ?? "–"];
          return html("tr", { "data-measure": key }, html("th", { scope: "row" }, name), ...cells.map((text) => html("td", {}, text)));
        }),
      );
      for (const { key, marks, px, py } of overLam) {
        const line_ = data.cells[at.protocol][at.alpha].map((one) => one[key]);
        marks.replaceChildren(
          svg("line", { class: "zero", x1: FRAME.left, x2: WIDTH - FRAME.right, y1: py(0), y2: py(0) }),
          line("run", lams, line_.map((one) => one.change), { px, py }),
          ...line_.map((one, i) => svg("circle", { class: "run", cx: px(lams[i]), cy: py(one.change), r: 2.5 })),
          ...data.paper
            .filter((p) => p.alpha === alpha && p[key] !== undefined)
            .map((p) => {
              const [x, y] = [px(p.lam), py(p[key])];
              return svg("path", { class: "paper", d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` });
            }),
          svg("line", { class: "ends", x1: px(lam), x2: px(lam), y1: py(cell[key].low), y2: py(cell[key].high) }),
          svg("circle", { class: "here", cx: px(lam), cy: py(cell[key].change), r: 6 }),
        );
      }
      fitted.marks.replaceChildren(line("mse", data.x, mse.curve, fitted), line("run", data.x, cell.curve, fitted));
      bars.forEach(({ bar, value }, i) => {
        value.textContent = `${Math.round(cell.slopes[i])} %`;
        bar.style.width = `${(100 * cell.slopes[i]) / most}%`;
      });
      box.dataset.state = `${at.protocol} ${alpha} ${lam}`;
    }

    box.append(
      html(
        "div",
        { class: "explorer-controls" },
        slider("lam", "λ", lams, String),
        slider("alpha", "α, share of Lai batches", alphas, percent),
        choice,
      ),
      about,
      told,
      html("div", { class: "explorer-scroll", tabindex: "0", role: "region", "aria-label": "Numbers" }, table),
      html(
        "p",
        { class: "explorer-key" },
        html("span", { class: "key here" }),
        "here ",
        html("span", { class: "key run" }),
        "this α ",
        html("span", { class: "key paper" }),
        "the paper ",
        html("span", { class: "key mse" }),
        "MSE",
      ),
      html(
        "div",
        { class: "explorer-panels" },
        ...overLam.map(({ figure }) => figure),
        panel(`Fitted curve over ${data.x_label.split(" ")[0]}`, fitted.picture),
        slopes,
      ),
    );
    draw();
    box.classList.add("drawn");
  }

  document.querySelectorAll(".explorer").forEach(build);
})();
