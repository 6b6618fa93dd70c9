// Volumes as they are packed by view.py: base64 of gzip of differences along each row, two bytes in two planes.
const unpack = (() => {
  async function bytes(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function whole(text, [depth, height, width], size) {
    const planes = await bytes(text);
    const count = depth * height * width;
    const values = size === 1 ? new Uint8Array(count) : new Uint16Array(count);
    for (let row = 0; row < count; row += width) {
      let sum = 0;
      for (let at = row; at < row + width; at++) {
        sum += planes[at] + (size === 2 ? planes[count + at] << 8 : 0);
        values[at] = sum; // modulo what the array holds
      }
    }
    return values;
  }

  // A NIfTI file of one volume: columns run to the patient's left, rows to the back, slices to the head.
  function nifti(values, view, scale) {
    const [depth, height, width] = view.shape;
    const [dz, dy, dx] = view.spacing_mm;
    const file = new ArrayBuffer(352 + values.byteLength);
    const header = new DataView(file);
    const word = (at, number) => header.setInt16(at, number, true);
    const real = (at, number) => header.setFloat32(at, number, true);
    header.setInt32(0, 348, true);
    [3, width, height, depth, 1, 1, 1, 1].forEach((number, axis) => word(40 + 2 * axis, number));
    word(70, values.BYTES_PER_ELEMENT === 1 ? 2 : 512);
    word(72, 8 * values.BYTES_PER_ELEMENT);
    [1, dx, dy, dz, 1].forEach((number, axis) => real(76 + 4 * axis, number));
    real(108, 352);
    real(112, scale.step);
    real(116, scale.low);
    header.setUint8(123, 2);
    word(254, 1);
    const [x, y, z] = origin(view);
    [-dx, 0, 0, x, 0, -dy, 0, y, 0, 0, dz, z].forEach((number, place) => real(280 + 4 * place, number));
    [..."n+1"].forEach((letter, place) => header.setUint8(344 + place, letter.charCodeAt(0)));
    new Uint8Array(file).set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 352);
    return file;
  }

  // Where the first voxel lies, in mm, with the middle of the volume at 0.
  function origin(view) {
    const [depth, height, width] = view.shape;
    const [dz, dy, dx] = view.spacing_mm;
    return [((width - 1) * dx) / 2, ((height - 1) * dy) / 2, (-(depth - 1) * dz) / 2];
  }

  return { whole, nifti, origin };
})();
