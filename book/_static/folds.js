/* Opens what a link leads into, in browsers that do not do so by themselves. */
(() => {
  "use strict";

  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    let folded = target?.closest("details:not([open])");
    if (!folded) return;
    for (; folded; folded = target.closest("details:not([open])")) folded.open = true;
    target.scrollIntoView();
  }

  window.addEventListener("hashchange", reveal);
  reveal();
})();
