// What the page does by itself: the size of uploads, the map under the pointer, the painted mask. Listens on the document, so that it
// works for whatever the server puts into the page later. Its own settings stand in window.mmssl.
(() => {
  const settings = window.mmssl;

  // -- uploads: said before anything is sent ------------------------------------------------------------------------------------
  const refuse = (event, files) => {
    const large = [...(files || [])].find((file) => file.size > settings.maxBytes);
    const empty = [...(files || [])].find((file) => file.size === 0);
    let box = document.getElementById("mm-upload-problem");
    if (!box) {
      box = document.createElement("div");
      box.id = "mm-upload-problem";
      box.setAttribute("role", "alert");
      (document.querySelector(".mm-head") || document.body).append(box);
    }
    box.className = "";
    box.textContent = "";
    if (!large && !empty) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    box.className = "mm-message mm-problem";
    box.textContent = large
      ? `${large.name} has ${(large.size / 1e6).toFixed(1)} MB, this page takes up to ${settings.maxMb}; cut the file, or start the page with a larger --max-mb`
      : `${empty.name} is empty (0 bytes); choose another file`;
    if (event.target.type === "file") event.target.value = "";
    box.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("change", (event) => event.target.type === "file" && refuse(event, event.target.files), true);
  document.addEventListener("drop", (event) => refuse(event, event.dataTransfer && event.dataTransfer.files), true);

  // -- the map under the pointer ------------------------------------------------------------------------------------------------
  const maps = new WeakMap();
  const mapOf = (figure) => {
    if (!maps.has(figure)) maps.set(figure, JSON.parse(figure.dataset.map));
    return maps.get(figure);
  };
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  // The cell whose centre is nearest: cell k is centred on pixel offset + stride * k of what the encoder saw.
  const cellAt = (map, axis, share) =>
    clamp(Math.round((share * map.seen[axis] - 0.5 - map.offset) / map.stride), map.grid[axis] - 1);
  const showCell = (figure, row, column) => {
    const map = mapOf(figure), at = row * map.grid[1] + column;
    const each = map.names.map((name, k) => ({ name, heat: map.heat[k][at], similarity: map.similarity[k][at] }));
    const best = each.reduce((a, b) => (b.heat > a.heat ? b : a));
    const words = each.map((one) => `${one.name ? one.name + ": " : ""}heat ${one.heat.toFixed(3)}, similarity ${one.similarity.toFixed(3)}`);
    const most = each.length > 1 ? (best.heat > 0 ? ` — ${best.name} is hottest here` : " — no source is hot here") : "";
    const output = figure.querySelector(".mm-heat-value");
    output.textContent = `Row ${row + 1}, column ${column + 1}: ${words.join("; ")}${most}`;
    Object.assign(output.dataset, { row, column, heat: best.heat, source: best.name });
    const edge = (axis, k) => clamp((map.offset + map.stride * (k - 0.5) + 0.5) / map.seen[axis], 1);
    const cell = figure.querySelector(".mm-heat-cell");
    const top = row === 0 ? 0 : edge(0, row), left = column === 0 ? 0 : edge(1, column);
    const bottom = row === map.grid[0] - 1 ? 1 : edge(0, row + 1), right = column === map.grid[1] - 1 ? 1 : edge(1, column + 1);
    const percent = (share) => `${100 * share}%`;
    Object.assign(cell.style, { top: percent(top), left: percent(left), height: percent(bottom - top), width: percent(right - left) });
    cell.hidden = false;
    figure.mmCell = [row, column];
  };
  document.addEventListener("pointermove", (event) => {
    const picture = event.target.closest && event.target.closest(".mm-heat-picture");
    if (!picture) return;
    const figure = picture.closest(".mm-heat"), box = picture.querySelector("img").getBoundingClientRect(), map = mapOf(figure);
    showCell(figure, cellAt(map, 0, (event.clientY - box.top) / box.height), cellAt(map, 1, (event.clientX - box.left) / box.width));
  });
  const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  document.addEventListener("keydown", (event) => {
    const picture = event.target.closest && event.target.closest(".mm-heat-picture");
    if (!picture || !arrows[event.key]) return;
    event.preventDefault();
    const figure = picture.closest(".mm-heat"), grid = mapOf(figure).grid, step = arrows[event.key];
    const at = figure.mmCell ? [figure.mmCell[0] + step[0], figure.mmCell[1] + step[1]] : [grid[0] >> 1, grid[1] >> 1];
    showCell(figure, clamp(at[0], grid[0] - 1), clamp(at[1], grid[1] - 1));
  });

  // -- painting: exact pixels of the film, no soft edges ------------------------------------------------------------------------
  const states = new WeakMap();
  const stateOf = (canvas) => {
    if (!states.has(canvas)) states.set(canvas, { mask: new Uint8Array(canvas.width * canvas.height), past: [], last: null, cursor: null });
    return states.get(canvas);
  };
  const toolsOf = (canvas) => {
    const painter = canvas.closest(".mm-painter");
    return {
      object: painter.querySelector(".mm-eraser").checked ? 0 : Number(painter.querySelector(".mm-object").value),
      radius: Number(painter.querySelector(".mm-size").value),
      colours: painter.dataset.colours.split(",").map((hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16))),
    };
  };
  const redraw = (canvas) => {
    const { mask, cursor } = stateOf(canvas), { colours, radius } = toolsOf(canvas);
    const pen = canvas.getContext("2d"), image = pen.createImageData(canvas.width, canvas.height);
    const packed = [0, ...colours.map(([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r)];
    const pixels = new Uint32Array(image.data.buffer); // red in the lowest byte: all machines that browsers run on
    for (let k = 0; k < mask.length; k++) pixels[k] = packed[mask[k]];
    pen.putImageData(image, 0, 0);
    if (cursor) {
      pen.beginPath();
      pen.arc(cursor[0], cursor[1], radius, 0, 2 * Math.PI);
      pen.strokeStyle = "#fff";
      pen.stroke();
    }
  };
  // Every pixel whose centre lies within the brush's radius of the line from a to b; x, y count from the picture's upper left corner.
  const stroke = (canvas, a, b) => {
    const { mask } = stateOf(canvas), { object, radius } = toolsOf(canvas), { width, height } = canvas;
    const across = b[0] - a[0], down = b[1] - a[1], length = across * across + down * down;
    const first = (axis) => Math.max(0, Math.floor(Math.min(a[axis], b[axis]) - radius - 1));
    const last = (axis, most) => Math.min(most - 1, Math.ceil(Math.max(a[axis], b[axis]) + radius + 1));
    for (let row = first(1); row <= last(1, height); row++)
      for (let column = first(0); column <= last(0, width); column++) {
        const x = column + 0.5 - a[0], y = row + 0.5 - a[1];
        const part = length ? Math.min(Math.max((x * across + y * down) / length, 0), 1) : 0;
        const dx = x - part * across, dy = y - part * down;
        if (dx * dx + dy * dy <= radius * radius) mask[row * width + column] = object;
      }
    redraw(canvas);
  };
  const remember = (canvas) => {
    const state = stateOf(canvas);
    state.past.push(state.mask.slice());
    if (state.past.length > 30) state.past.shift();
  };
  const placeOf = (canvas, event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  const canvasOf = (event) => (event.target.matches && event.target.matches(".mm-canvas canvas") ? event.target : null);
  document.addEventListener("pointerdown", (event) => {
    const canvas = canvasOf(event);
    if (!canvas || event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    remember(canvas);
    const state = stateOf(canvas), place = placeOf(canvas, event);
    state.cursor = null;
    state.last = place;
    stroke(canvas, place, place);
  });
  document.addEventListener("pointermove", (event) => {
    const canvas = canvasOf(event);
    if (!canvas || !stateOf(canvas).last) return;
    const place = placeOf(canvas, event);
    stroke(canvas, stateOf(canvas).last, place);
    stateOf(canvas).last = place;
  });
  for (const name of ["pointerup", "pointercancel"])
    document.addEventListener(name, (event) => canvasOf(event) && (stateOf(canvasOf(event)).last = null));
  document.addEventListener("keydown", (event) => {
    const canvas = canvasOf(event);
    if (!canvas || !(arrows[event.key] || event.key === " ")) return;
    event.preventDefault();
    const state = stateOf(canvas), { radius } = toolsOf(canvas);
    state.cursor = state.cursor || [canvas.width / 2, canvas.height / 2];
    if (event.key === " ") {
      remember(canvas);
      stroke(canvas, state.cursor, state.cursor);
    } else {
      const step = event.shiftKey ? 1 : Math.max(1, radius / 2);
      state.cursor = [
        clamp(state.cursor[0] + step * arrows[event.key][1], canvas.width),
        clamp(state.cursor[1] + step * arrows[event.key][0], canvas.height),
      ];
      redraw(canvas);
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".mm-undo, .mm-clear");
    if (!button) return;
    const canvas = button.closest(".mm-painter").querySelector("canvas"), state = stateOf(canvas);
    if (button.matches(".mm-clear")) {
      remember(canvas);
      state.mask.fill(0);
    } else if (state.past.length) state.mask = state.past.pop();
    redraw(canvas);
  });
  // The mask as a PNG whose grey levels are the objects' numbers; opaque, so that no level is changed on its way. Empty where nothing is painted.
  settings.mask = () => {
    const canvas = document.querySelector(".mm-canvas canvas");
    if (!canvas || !stateOf(canvas).mask.some((value) => value)) return "";
    const whole = document.createElement("canvas");
    [whole.width, whole.height] = [canvas.width, canvas.height];
    const pen = whole.getContext("2d"), image = pen.createImageData(whole.width, whole.height);
    const pixels = new Uint32Array(image.data.buffer);
    stateOf(canvas).mask.forEach((value, k) => (pixels[k] = (255 << 24) | (value * 0x010101)));
    pen.putImageData(image, 0, 0);
    return whole.toDataURL("image/png");
  };
})();
