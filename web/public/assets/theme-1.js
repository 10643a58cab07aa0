// Runs before the first paint, so that a chosen theme does not flash: see src/app/preferences.ts.
try {
  var chosen = JSON.parse(localStorage.getItem("legato.preferences") || "{}");
  if (chosen.theme === "light" || chosen.theme === "dark") document.documentElement.dataset.theme = chosen.theme;
  if (chosen.language) document.documentElement.lang = chosen.language;
} catch {
  // Without storage the system's theme is taken.
}
