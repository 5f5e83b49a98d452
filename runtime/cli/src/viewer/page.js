// Shows the screen of a box, and tells the box of keys and pointer. The messages are described in torbox-display, served/message.rs.
// What the box sends is pixels, the pointer's look out of a closed list, titles, and the text that its user asked for: nothing of it is ever
// read as HTML, CSS or a script.
"use strict";
const [screen, keys, place, windows, said, out] = ["screen", "keys", "place", "windows", "said", "out"].map((id) => document.getElementById(id));
const canvas = screen.getContext("2d", { alpha: false });
const CURSORS = ["default", "none", "pointer", "text", "progress", "crosshair", "move", "ew-resize", "ns-resize", "nesw-resize", "nwse-resize", "help", "not-allowed"];
const MAC = navigator.platform.startsWith("Mac");
const WHEEL = 100;
const letter = (name) => name.charCodeAt(0);
const text = new TextEncoder();
const shorts = (...numbers) => numbers.flatMap((number) => [(number >> 8) & 255, number & 255]);

const socket = new WebSocket(`ws://${location.host}/screen/${location.hash.slice(1)}`);
socket.binaryType = "arraybuffer";
// Pictures are unpacked one after the other; the box sends the next one when it was told that this one is shown.
let drawn = Promise.resolve();

const say = (name, ...bytes) => {
  if (socket.readyState === WebSocket.OPEN) socket.send(Uint8Array.from([letter(name), ...bytes]));
};
const sayText = (name, head, string) => {
  const bytes = text.encode(string);
  const message = new Uint8Array(1 + head.length + bytes.length);
  message.set([letter(name), ...head]);
  message.set(bytes, 1 + head.length);
  if (socket.readyState === WebSocket.OPEN) socket.send(message);
};
const size = () => shorts(Math.floor(place.clientWidth), Math.floor(place.clientHeight));

socket.onopen = () => {
  said.hidden = true;
  say("h", ...size());
  keys.focus();
};
socket.onclose = () => {
  said.hidden = false;
  said.textContent = there ? "The box has ended, or another page shows it now." : "There is no box at this address.";
};
let there = false;
socket.onmessage = ({ data }) => {
  there = true;
  const view = new DataView(data);
  switch (String.fromCharCode(view.getUint8(0))) {
    case "r":
      drawn = drawn.then(() => {
        [screen.width, screen.height] = [view.getUint16(1), view.getUint16(3)];
      });
      break;
    case "p":
      drawn = drawn.then(() => draw(view)).finally(() => say("a"));
      break;
    case "c": {
      const name = new TextDecoder().decode(data.slice(1));
      screen.style.cursor = CURSORS.includes(name) ? name : "default";
      break;
    }
    case "w":
      list(view);
      break;
    case "o":
      out.hidden = view.getUint8(1) !== 1;
      break;
    case "v":
      copied(new TextDecoder().decode(data.slice(1)));
      break;
  }
};

async function draw(view) {
  const [x, y, width, height] = [1, 3, 5, 7].map((at) => view.getUint16(at));
  const packed = new Blob([new Uint8Array(view.buffer, 9)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const pixels = new Uint8ClampedArray(await new Response(packed).arrayBuffer());
  if (width && height && pixels.length === 4 * width * height) canvas.putImageData(new ImageData(pixels, width, height), x, y);
}

function list(view) {
  const top = view.getBigUint64(1);
  const all = [];
  for (let at = 9; at + 10 <= view.byteLength; ) {
    const length = view.getUint16(at + 8);
    all.push({ id: view.getBigUint64(at), bytes: new Uint8Array(view.buffer, at, 8), title: new TextDecoder().decode(new Uint8Array(view.buffer, at + 10, length)) });
    at += 10 + length;
  }
  document.title = `torbox: ${all.find(({ id }) => id === top)?.title ?? ""}`;
  windows.replaceChildren(...all.map(({ id, bytes, title }) => {
    const button = document.createElement("button");
    button.textContent = title || "A window";
    button.setAttribute("role", "tab");
    button.setAttribute("aria-selected", String(id === top));
    button.onclick = () => {
      say("s", ...bytes);
      keys.focus();
    };
    return button;
  }));
  if (windows.hidden !== all.length < 2) {
    windows.hidden = all.length < 2;
    resized();
  }
}

// The pointer.
const graphic = (event) => event.getModifierState("AltGraph");
const modifiers = (event) => {
  const control = (event.ctrlKey && !graphic(event)) || (MAC && event.metaKey);
  return shorts((event.shiftKey ? 1 : 0) | (control ? 4 : 0) | (event.altKey && !graphic(event) ? 8 : 0));
};
const at = (event) => {
  const corner = screen.getBoundingClientRect();
  return shorts(...[event.clientX - corner.x, event.clientY - corner.y].map((place) => Math.max(0, Math.floor(place))));
};
const press = (event, button, down) => say("b", ...modifiers(event), ...at(event), button, down ? 1 : 0);
screen.addEventListener("pointermove", (event) => say("m", ...modifiers(event), ...at(event)));
screen.addEventListener("pointerdown", (event) => {
  screen.setPointerCapture(event.pointerId);
  keys.focus();
  if (event.button < 3) press(event, event.button + 1, true);
  event.preventDefault();
});
screen.addEventListener("pointerup", (event) => {
  if (event.button < 3) press(event, event.button + 1, false);
});
screen.addEventListener("mousedown", (event) => event.preventDefault());
screen.addEventListener("contextmenu", (event) => event.preventDefault());
const turned = { x: 0, y: 0 };
screen.addEventListener("wheel", (event) => {
  const unit = [1, WHEEL / 3, WHEEL * 3][event.deltaMode];
  for (const [axis, delta, less, more] of [["y", event.deltaY, 4, 5], ["x", event.deltaX, 6, 7]]) {
    turned[axis] += delta * unit;
    for (; Math.abs(turned[axis]) >= WHEEL; turned[axis] -= Math.sign(turned[axis]) * WHEEL) {
      const button = turned[axis] < 0 ? less : more;
      press(event, button, true);
      press(event, button, false);
    }
  }
  event.preventDefault();
}, { passive: false });

// Keys. What was copied elsewhere is told when it is pasted, and not again as long as the user stays here.
let elsewhere = true;
let pasting = false;
const isPaste = (event) => event.key.toLowerCase() === "v" && (MAC ? event.metaKey : event.ctrlKey) && !event.altKey;
const key = (event, down) => sayText("k", [...modifiers(event), down ? 1 : 0], `${event.code}\0${MAC && event.key === "Meta" ? "Control" : event.key}`);
keys.addEventListener("keydown", (event) => {
  if (event.isComposing || event.key === "Dead" || event.key === "Process") return;
  if (isPaste(event) && elsewhere) {
    pasting = true;
    return;
  }
  if ((event.ctrlKey || event.metaKey) && ["c", "x"].includes(event.key.toLowerCase())) elsewhere = false;
  if (!event.repeat) key(event, true);
  event.preventDefault();
});
keys.addEventListener("keyup", (event) => {
  if (!event.isComposing) key(event, false);
  event.preventDefault();
});
keys.addEventListener("paste", (event) => {
  event.preventDefault();
  // Some browsers paste with the middle button, too, which is the box's.
  if (!pasting) return;
  elsewhere = pasting = false;
  sayText("v", [], event.clipboardData.getData("text/plain").slice(0, 1 << 18));
  const control = shorts(4);
  sayText("k", [...control, 1], "KeyV\0v");
  sayText("k", [...control, 0], "KeyV\0v");
});
keys.addEventListener("compositionend", (event) => {
  sayText("t", [], event.data);
  keys.value = "";
});
keys.addEventListener("input", (event) => {
  if (!event.isComposing) {
    if (keys.value) sayText("t", [], keys.value);
    keys.value = "";
  }
});
keys.addEventListener("focus", () => say("f", 1));
keys.addEventListener("blur", () => say("f", 0));
window.addEventListener("blur", () => { elsewhere = true; });

// What was copied in the box comes out when the user says so, and at no other time: the box is not believed that it was asked, and an answer
// that comes late is none.
const ANSWERS = 5000;
let wanted = -ANSWERS;
out.addEventListener("click", () => {
  wanted = performance.now();
  say("y");
  keys.focus();
});
function copied(text) {
  if (performance.now() - wanted > ANSWERS) return;
  wanted = -ANSWERS;
  out.hidden = true;
  elsewhere = false;
  navigator.clipboard.writeText(text).catch(() => window.prompt("To be copied:", text));
}

// The screen is as large as the page.
let last = "";
function resized() {
  const now = size();
  if (String(now) !== last) say("r", ...now);
  last = String(now);
}
new ResizeObserver(resized).observe(place);
