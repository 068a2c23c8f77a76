// node pyodide.mjs PYODIDE SCRIPT FOLDER...: runs a Python script in Pyodide, with the folders on its path.
const [pyodide, script, ...folders] = process.argv.slice(2);
const { loadPyodide } = await import(`${pyodide}/pyodide.mjs`);
const python = await loadPyodide();
const { readFileSync } = await import("node:fs");
folders.forEach((folder, number) => {
  python.FS.mkdirTree(`/path/${number}`);
  python.FS.mount(python.FS.filesystems.NODEFS, { root: folder }, `/path/${number}`);
  python.runPython(`import sys; sys.path.insert(${number}, "/path/${number}")`);
});
python.runPython(readFileSync(script, "utf8"));
