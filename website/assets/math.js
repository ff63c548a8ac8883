// Formulas, by the MathJax that lies beside the pages; pages without one do not load it.
if (document.querySelector(".arithmatex")) {
  window.MathJax = {
    tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
    options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex", enableMenu: false },
  };
  const script = document.createElement("script");
  script.src = new URL("mathjax.js", document.currentScript.src);
  document.head.append(script);
}
