"use strict";
const code = decodeURIComponent(location.hash.slice(1)).replace(/[^A-Za-z0-9-]/g, "").slice(0, 60) || "CODE";
const here = (location.protocol === "https:" ? "https://" : "") + location.host + location.pathname.replace(/\/$/, "");
document.getElementById("cell").textContent = `mi_course.join("${code}@${here}")`;
document.getElementById("verb").textContent = `mi-course workshop join ${code}@${here}`;
const said = document.getElementById("said");
if (code === "CODE") said.textContent = "CODE stands on the wall of the room.";
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      said.textContent = "Copied.";
    } catch {
      // Without TLS browsers give no clipboard: select it, so that Ctrl-C copies.
      getSelection().selectAllChildren(source);
      said.textContent = "Selected: copy it with Ctrl-C or ⌘C.";
    }
  });
}
