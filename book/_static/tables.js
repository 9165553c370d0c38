/* A table that scrolls under its caption can be reached from the keyboard; the theme sees to those without a caption. */
(() => {
  "use strict";

  function look() {
    for (const table of document.querySelectorAll(".captioned-table > .output")) {
      if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
      else table.removeAttribute("tabindex");
    }
  }

  for (const what of ["load", "resize"]) window.addEventListener(what, look);
  document.addEventListener("toggle", look, true); // a fold has no width before it is open
  look();
})();
