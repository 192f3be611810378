// What somebody drops or chooses: files, each with the folders it lies in.

// Only while the event is handled may it be asked what was dropped; what is in the folders is read afterwards.
export function dropped(event, isDeep = true) {
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry?.() || item.getAsFile());
  return gather(found, [], isDeep);
}

async function gather(entries, folders, isDeep) {
  const files = [];
  for (const entry of entries) files.push(...(await unfold(entry, folders, isDeep)));
  return files;
}

async function unfold(entry, folders, isDeep) {
  if (entry instanceof File) return [{ file: entry, folders }];
  try {
    if (entry.isFile) return [{ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), folders }];
    if (!isDeep) return [{ file: new File([], entry.name), folders, refusal: "This is a folder. Choose the file in it." }];
    return await gather(await inside(entry), [...folders, entry.name], isDeep);
  } catch {
    return [{ file: new File([], entry.name), folders, refusal: "The browser could not read this." }];
  }
}

// A folder gives what is in it by the hundred, and an empty list at its end.
async function inside(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return entries.sort((one, other) => (one.name < other.name ? -1 : 1));
    entries.push(...some);
  }
}

export function chosen(input) {
  return [...input.files].map((file) => ({ file, folders: (file.webkitRelativePath || "").split("/").slice(0, -1) }));
}

export function hasFiles(event) {
  return [...(event.dataTransfer?.types || [])].includes("Files");
}
