"""From hits to linear radiance: textures, sun, lamps, sky, haze and wet ground, in compiled code.

Everything is computed per pixel in one pass, so that nothing of an image's size is stored in
between. Colours are linear RGB; 1 is a white wall in the sun.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from condense_ros.sim.sensors.compiled import compiled

Float = npt.NDArray[np.float32]
_SIZE, _LAYERS, _STEPS = 512, 24, 40.0
# columns of `SurfaceTable.columns`
_A, _B, _SCALE, _SHIFT, _CONTRAST, _SHINE, _GLASS = 0, 3, 6, 7, 9, 10, 11


@cache
def noise() -> npt.NDArray[np.int8]:
    """(24, 512, 512) periodic noise with a 1/f spectrum, zero mean, one unit = 1/40 sigma."""
    frequency = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None])
    frequency[0, 0] = np.inf
    layers = np.empty((_LAYERS, _SIZE, _SIZE), np.int8)
    for layer in range(_LAYERS):
        rng = np.random.default_rng(layer)
        spectrum = np.fft.rfft2(rng.standard_normal((_SIZE, _SIZE))) / frequency**1.1
        field = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
        field = (field - field.mean()) / field.std()
        layers[layer] = np.clip(np.round(field * _STEPS), -127, 127)
    return layers


@cache
def normal_draws() -> npt.NDArray[np.int8]:
    """(2^20,) standard normal numbers, one unit = 1/32, clipped at 3.9 sigma.

    Reading them from random places is many times faster than drawing a number per pixel.
    """
    draws = np.random.default_rng(1207).standard_normal(2**20) * 32
    return np.clip(np.round(draws), -125, 125).astype(np.int8)


@compiled
def _cell(table, u, v):  # type: ignore[no-untyped-def]
    """Noise of the cell that holds (u, v)."""
    return table[int(np.floor(u)) & 511, int(np.floor(v)) & 511] * (1 / 40.0)


@compiled
def _smooth(table, u, v):  # type: ignore[no-untyped-def]
    """Noise at (u, v), interpolated, for patches whose cells would show as squares."""
    i, j = int(np.floor(u)), int(np.floor(v))
    fu, fv = u - i, v - j
    a, b, c, d = i & 511, j & 511, (i + 1) & 511, (j + 1) & 511
    low = table[a, b] * (1 - fv) + table[a, d] * fv
    high = table[c, b] * (1 - fv) + table[c, d] * fv
    return (low * (1 - fu) + high * fu) * (1 / 40.0)


@compiled
def _share(value):  # type: ignore[no-untyped-def]
    """Fractional part; `%` is several times slower."""
    return value - np.floor(value)


@compiled
def _clip(value, low, high):  # type: ignore[no-untyped-def]
    return min(max(value, low), high)


@compiled
def _pattern(kind, noise, u, v, scale, s, t):  # type: ignore[no-untyped-def]
    """Share 0..1 of a texture's second colour; `kind` is a row of `materials.TEXTURES`.

    (u, v) are metres on the surface; (s, t) the same, shifted per surface.
    """
    if kind == 0:  # plain
        return 0.0
    if kind == 1:  # mottle
        return _clip(0.5 + 0.45 * _smooth(noise[3], s * 32 / scale, t * 32 / scale), 0.0, 1.0)
    if kind == 2:  # brick
        y = v / (scale * 0.33)
        row = np.floor(y)
        x = u / scale + _share(0.5 * row)  # every other row is shifted by half a brick
        column = np.floor(x)
        if x - column < 0.05 or y - row < 0.14:
            return 1.0
        return _clip(0.12 + 0.16 * _cell(noise[4], column * 7, row * 13), 0.0, 0.5)
    if kind == 3:  # stripes
        phase = _share(u / scale)
        return _clip((phase - 0.5) * 8 + 0.5, 0.0, 1.0) * _clip((1 - phase) * 12, 0.0, 1.0)
    if kind == 4:  # tiles
        x, y = u / scale, v / scale
        i, j = np.floor(x), np.floor(y)
        if x - i < 0.05 or y - j < 0.05:
            return 0.9
        return _clip(0.25 + 0.2 * _cell(noise[5], i * 5, j * 11), 0.0, 0.7)
    if kind == 5:  # leaf
        return _clip(0.4 + 0.45 * _cell(noise[6], s * 40 / scale, t * 40 / scale), 0.0, 1.0)
    if kind == 6:  # checker
        return 2 * _share(0.5 * (np.floor(u / scale) + np.floor(v / scale)))
    if kind == 7:  # wood: bands of grain along v, bent by slow noise
        bend = _smooth(noise[7], s * 6 / scale, t / scale)
        phase = _share(u / scale + 0.5 * bend)
        fine = _cell(noise[8], s * 24 / scale, t / scale)
        return _clip(0.25 + 0.5 * phase * phase + 0.12 * fine, 0.0, 1.0)
    if kind == 8:  # concrete: clouded panels with thin joints
        if _share(u / scale) < 0.012 or _share(v / scale) < 0.012:
            return 1.0
        stain = _smooth(noise[9], s * 48 / scale, t * 48 / scale)
        pores = _cell(noise[10], s / 0.015, t / 0.015)
        return _clip(0.3 + 0.22 * stain + 0.08 * pores, 0.0, 0.8)
    if kind == 9:  # planks: boards along v, each with its own tone and grain
        board = np.floor(u / scale)
        if u / scale - board < 0.06:
            return 1.0
        tone = _cell(noise[4], board * 7, board * 3)
        grain = _cell(noise[8], s * 16 / scale, t * 0.8 / scale)
        return _clip(0.35 + 0.18 * tone + 0.14 * grain, 0.0, 0.85)
    if kind == 10:  # grass: tufts, and blades far finer
        tuft = _smooth(noise[11], s * 12 / scale, t * 12 / scale)
        blade = _cell(noise[12], s * 60 / scale, t * 60 / scale)
        return _clip(0.45 + 0.22 * tuft + 0.3 * blade, 0.0, 1.0)
    if kind == 11:  # gravel: stones of one tone each
        jitter = _cell(noise[13], s * 3 / scale, t * 3 / scale)
        i, j = np.floor(s / scale + 0.3 * jitter), np.floor(t / scale - 0.3 * jitter)
        return _clip(0.5 + 0.3 * _cell(noise[5], i * 5, j * 11) + 0.1 * jitter, 0.0, 1.0)
    if kind == 12:  # cloth: weave under soft folds
        weave = np.sin(u * (2 * np.pi / scale)) * np.sin(v * (2 * np.pi / scale))
        fold = _smooth(noise[14], s * 0.5 / scale, t * 0.5 / scale)
        return _clip(0.4 + 0.18 * weave + 0.25 * fold, 0.0, 1.0)
    if kind == 13:  # asphalt: grit, worn patches, cracks filled with tar
        if abs(_smooth(noise[17], s * 10 / scale, t * 10 / scale)) < 0.012:
            return 0.0
        wear = _smooth(noise[16], s * 24 / scale, t * 24 / scale)
        return _clip(0.35 + 0.2 * wear + 0.14 * _cell(noise[15], s / 0.012, t / 0.012), 0.0, 0.9)
    # render: plaster with streaks of rain
    streak = _smooth(noise[18], s * 16 / scale, t * 2 / scale)
    return _clip(0.25 + 0.16 * streak + 0.1 * _cell(noise[19], s / 0.01, t / 0.01), 0.0, 1.0)


@compiled
def _albedo(noise, columns, kinds, row, x, y, z, nx, ny, nz, range_m, footprint):  # type: ignore[no-untyped-def]
    # vertical faces: u along the wall, v up; others seen from above
    if abs(nz) > 0.7:
        u, v = x, y
    else:
        u, v = (y * nx - x * ny) / max(np.hypot(nx, ny), 1e-3), z
    c = columns[row]
    scale = c[_SCALE]
    s, t = u + c[_SHIFT], v + c[_SHIFT + 1]
    kind = kinds[row]
    mix = _pattern(kind, noise, u, v, scale, s, t)
    if kind > 1 and footprint > 0.25 * scale:
        # a pixel that covers several bricks shows their mean
        mix += _clip(2 * footprint / scale - 0.5, 0.0, 1.0) * (0.38 - mix)
    grain = _cell(noise[1], s * 50.0, t * 50.0) * min(12.0 / range_m, 1.0)
    dirt = _cell(noise[2], s * (1 / 0.11), t * (1 / 0.11))
    # (1 + x / 8)^8 is nearly exp(x), and faster
    soil = max(1 + c[_CONTRAST] * (0.075 * grain + 0.0625 * dirt), 0.0)
    soil *= soil
    soil *= soil
    soil *= soil
    red = (c[_A] + mix * (c[_B] - c[_A])) * soil
    green = (c[_A + 1] + mix * (c[_B + 1] - c[_A + 1])) * soil
    blue = (c[_A + 2] + mix * (c[_B + 2] - c[_A + 2])) * soil
    return _clip(red, 0.01, 0.97), _clip(green, 0.01, 0.97), _clip(blue, 0.01, 0.97)


@compiled
def albedo(noise, columns, kinds, rows, xyz, normal, range_m, out):  # type: ignore[no-untyped-def]
    """Fills out (N, 3) with the colours of surfaces `rows` at points xyz (N, 3)."""
    for k in range(len(rows)):
        out[k] = _albedo(
            noise, columns, kinds, rows[k],
            xyz[k, 0], xyz[k, 1], xyz[k, 2], normal[k, 0], normal[k, 1], normal[k, 2],
            range_m[k], 0.0,
        )  # fmt: skip


# What the kernels need of `scenery.Light`, in one array: sun 0:3, sun colour 3:6, ambient 6:9,
# horizon 9:12, zenith 12:15, clouds 15, haze 16, wet 17, indoors 18, shift of the clouds 19:21,
# lamp colour 21:24
@compiled
def _sky(noise, light, x, y, z):  # type: ignore[no-untyped-def]
    """Radiance of the sky in a direction; below the horizon that of the horizon."""
    share = np.sqrt(max(z, 0.0))
    red = light[9] + share * (light[12] - light[9])
    green = light[10] + share * (light[13] - light[10])
    blue = light[11] + share * (light[14] - light[11])
    cover = light[15]
    if cover > 0 and z > 0:
        # a flat layer of clouds that the horizon swallows
        far = 1 / (z + 0.12)
        u, v = x * far * 24 + light[19], y * far * 24 + light[20]
        value = _smooth(noise[20], u, v) + 0.4 * _smooth(noise[21], u * 3.7, v * 3.7)
        # covered where noise of unit variance exceeds what leaves `cover` of the sky
        edge = 3.2 * (0.5 - cover)
        depth = _clip((value - edge) * 0.9 + 0.15, 0.0, 1.0) * _clip(z * 8, 0.0, 1.0)
        bright = 0.5 * (light[6] + light[7] + light[8]) / 1.48 + 0.55 - 0.25 * depth
        bright *= 0.75 + 0.1 * (light[3] + light[4] + light[5])
        red += depth * (bright - red)
        green += depth * (bright - green)
        blue += depth * (bright * 1.03 - blue)
    towards = x * light[0] + y * light[1] + z * light[2]
    if towards > 0.9 and light[3] > 0:
        halo = (1 - cover) * ((towards - 0.9) * 10) ** 4
        if towards > 0.99985:
            halo += 8 * (1 - cover)
        red += halo * light[3]
        green += halo * light[4]
        blue += halo * light[5]
    return red, green, blue


@compiled
def faces_sun(sun, direction, triangle, normal, out):  # type: ignore[no-untyped-def]
    """out (N,): cosine between the sun and the side of each hit face that the ray sees, or 0."""
    for k in range(len(triangle)):
        face = triangle[k]
        if face < 0:
            out[k] = 0.0
            continue
        nx, ny, nz = normal[face, 0], normal[face, 1], normal[face, 2]
        cosine = nx * sun[0] + ny * sun[1] + nz * sun[2]
        if nx * direction[k, 0] + ny * direction[k, 1] + nz * direction[k, 2] > 0:
            cosine = -cosine
        out[k] = max(cosine, 0.0)


@compiled
def starts(rows, origin, block, direction, range_m, triangle, normal, out):  # type: ignore[no-untyped-def]
    """out (len(rows), 3): points a little off the hit surfaces, on the side that the rays see."""
    for i in range(len(rows)):
        k = rows[i]
        face, eye = triangle[k], block[k] if len(block) else 0
        side = 0.0
        for a in range(3):
            side += normal[face, a] * direction[k, a]
        off = 2e-3 + 2e-4 * range_m[k]
        if side > 0:
            off = -off
        for a in range(3):
            out[i, a] = origin[eye, a] + direction[k, a] * range_m[k] + off * normal[face, a]


@compiled
def spread_shadows(height, width, triangle, surface, normal, range_m, cosine, lit, rest):  # type: ignore[no-untyped-def]
    """Fills pixels between shadow samples where all samples around agree.

    Samples lie at even rows and columns. lit (N,): 0, 1 at samples with cosine > 0. A pixel takes
    over the state of its 2 or 4 neighbouring samples if they lie on its own surface and agree;
    the others are written to `rest`.

    Returns:
        how many of `rest` (N,) are filled.
    """
    count = 0
    for r in range(height):
        for c in range(width):
            if r % 2 == 0 and c % 2 == 0:
                continue
            k = r * width + c
            if cosine[k] <= 0:
                continue
            face = triangle[k]
            r0, c0 = r - r % 2, c - c % 2
            r1, c1 = r + r % 2, c + c % 2
            agree, state = r1 < height and c1 < width, 2
            for corner in range(4):
                if not agree:
                    break
                n = (r0 if corner < 2 else r1) * width + (c0 if corner % 2 == 0 else c1)
                other = triangle[n]
                if other != face:
                    if other < 0 or cosine[n] <= 0 or surface[other] != surface[face]:
                        agree = False
                        break
                    dot = (
                        normal[face, 0] * normal[other, 0]
                        + normal[face, 1] * normal[other, 1]
                        + normal[face, 2] * normal[other, 2]
                    )
                    near = abs(range_m[n] - range_m[k]) < 0.03 * range_m[k]
                    if abs(dot) < 0.98 or not near:
                        agree = False
                        break
                if state == 2:
                    state = lit[n]
                elif state != lit[n]:
                    agree = False
            if agree:
                lit[k] = state
            else:
                rest[count] = k
                count += 1
    return count


@compiled
def shade(  # type: ignore[no-untyped-def]
    noise, light, columns, kinds, surface, normal,
    origin, block, direction, triangle, range_m, cosine, lit, lamp,
    moved, moved_xyz, moved_normal, moved_world_normal, pixel_rad, out,
):  # fmt: skip
    """Radiance (N, 3) into `out` along rays.

    Args:
        columns, kinds: of the `SurfaceTable`.
        surface, normal: per triangle.
        origin (K, 3), block (N,) or (0,), direction (N, 3), triangle (N,), range_m (N,): rays and
            hits; triangle -1 is sky.
        cosine, lit (N,): towards the sun, and whether the sun is seen.
        lamp: (N, 3) light from lamps, or (0, 3).
        moved (N,) or (0,): row of moved_* for rays that hit something that moves, else -1;
            moved_xyz, moved_normal in the object's frame, moved_world_normal as it stands.
    """
    indoors, wet = light[18], light[17]
    for k in range(len(triangle)):
        dx, dy, dz = direction[k, 0], direction[k, 1], direction[k, 2]
        face = triangle[k]
        if face < 0:
            out[k] = _sky(noise, light, dx, dy, dz)
            continue
        eye = block[k] if len(block) else 0
        far = range_m[k]
        x, y, z = origin[eye, 0] + dx * far, origin[eye, 1] + dy * far, origin[eye, 2] + dz * far
        nx, ny, nz = normal[face, 0], normal[face, 1], normal[face, 2]
        tx, ty, tz = nx, ny, nz
        row = moved[k] if len(moved) else -1
        if row >= 0:
            x, y, z = moved_xyz[row, 0], moved_xyz[row, 1], moved_xyz[row, 2]
            tx, ty, tz = moved_normal[row, 0], moved_normal[row, 1], moved_normal[row, 2]
            nx, ny, nz = (
                moved_world_normal[row, 0],
                moved_world_normal[row, 1],
                moved_world_normal[row, 2],
            )
        # every face is two-sided and faces the eye
        facing = -(nx * dx + ny * dy + nz * dz)
        if facing < 0:
            facing, nx, ny, nz, tx, ty, tz = -facing, -nx, -ny, -nz, -tx, -ty, -tz
        material = surface[face]
        footprint = pixel_rad * far / np.sqrt(max(facing, 0.02))
        red, green, blue = _albedo(
            noise, columns, kinds, material, x, y, z, tx, ty, tz, far, footprint
        )
        water = 0.0
        if wet > 0 and nz > 0.7:
            water = wet * _clip(0.75 + 0.5 * _smooth(noise[22], x * 1.5, y * 1.5), 0.0, 1.0)
            dark = 1 - 0.5 * water
            red, green, blue = red * dark, green * dark, blue * dark
        sun = cosine[k] * lit[k]
        glow = 0.65 + 0.35 * nz
        light_r = sun * light[3] + glow * light[6]
        light_g = sun * light[4] + glow * light[7]
        light_b = sun * light[5] + glow * light[8]
        if len(lamp):
            light_r += lamp[k, 0]
            light_g += lamp[k, 1]
            light_b += lamp[k, 2]
        red, green, blue = red * light_r, green * light_g, blue * light_b
        shine = max(columns[material, _SHINE], 0.7 * columns[material, _GLASS])
        shine = max(shine, 0.8 * water)
        if shine > 0.02:
            # Schlick's approximation of Fresnel's law; what is mirrored is the sky alone
            grazing = 1 - facing
            share = shine * (0.05 + 0.75 * grazing * grazing * grazing * grazing)
            mx, my, mz = dx + 2 * facing * nx, dy + 2 * facing * ny, dz + 2 * facing * nz
            if indoors > 0:
                sr, sg, sb = light[6], light[7], light[8]
            else:
                sr, sg, sb = _sky(noise, light, mx, my, mz)
                if mz < 0:
                    sr, sg, sb = 0.4 * sr, 0.4 * sg, 0.4 * sb
            red += share * (sr - red)
            green += share * (sg - green)
            blue += share * (sb - blue)
        thick = far / light[16]
        # the series of exp(thick): within 1 % of haze up to twice haze_m
        haze = 1 - 1 / (1 + thick * (1 + thick * (0.5 + thick * (1 / 6.0 + thick / 24.0))))
        out[k, 0] = red + haze * (0.9 * light[9] - red)
        out[k, 1] = green + haze * (0.9 * light[10] - green)
        out[k, 2] = blue + haze * (0.9 * light[11] - blue)


@compiled
def lamp_choice(lamps, cells, low, cell_m, xyz, normal, reach_m, chosen, weight):  # type: ignore[no-untyped-def]
    """The lamps that would light points most, were nothing in between.

    Args:
        lamps: (L, 3).
        cells: (X, Y, Z, C) int32 lamps near each cell of a grid from `low`, -1 where no more.
        xyz, normal: (N, 3), normals towards the eye.
        chosen: (N, B) int32, filled; -1 where no more.
        weight: (N, B) filled with cosine / distance^2, brightest first.
    """
    best = chosen.shape[1]
    for k in range(len(xyz)):
        for b in range(best):
            chosen[k, b] = -1
            weight[k, b] = 0.0
        i = int(np.floor((xyz[k, 0] - low[0]) / cell_m))
        j = int(np.floor((xyz[k, 1] - low[1]) / cell_m))
        h = int(np.floor((xyz[k, 2] - low[2]) / cell_m))
        if not (0 <= i < cells.shape[0] and 0 <= j < cells.shape[1] and 0 <= h < cells.shape[2]):
            continue
        for slot in range(cells.shape[3]):
            lamp = cells[i, j, h, slot]
            if lamp < 0:
                break
            x, y, z = (
                lamps[lamp, 0] - xyz[k, 0],
                lamps[lamp, 1] - xyz[k, 1],
                lamps[lamp, 2] - xyz[k, 2],
            )
            square = x * x + y * y + z * z
            along = x * normal[k, 0] + y * normal[k, 1] + z * normal[k, 2]
            if along <= 0 or square > reach_m * reach_m:
                continue
            # ceiling lamps shine down; the window brings the light to zero at the reach
            fade = 1 - square / (reach_m * reach_m)
            value = along / (np.sqrt(square) * (square + 0.05)) * fade * fade
            for b in range(best):
                if value > weight[k, b]:
                    for later in range(best - 1, b, -1):
                        weight[k, later] = weight[k, later - 1]
                        chosen[k, later] = chosen[k, later - 1]
                    weight[k, b] = value
                    chosen[k, b] = lamp
                    break


@compiled
def develop(radiance, gain, vignette, noise_share, table, offsets, curve, out):  # type: ignore[no-untyped-def]
    """uint8 pixels from radiance (N, 3): gain, vignetting, clipping, noise and the tone curve.

    Args:
        vignette: (N,) share of light that reaches each pixel, or (0,).
        table, offsets: of `normal_draws`; every row of the image reads the table from its own
            offset on.
        curve: (4096,) uint8 of signal 0..1.
    """
    width, mask = len(radiance) // len(offsets), len(table) - 1
    spread = np.empty(256)
    for k in range(256):
        spread[k] = noise_share / 32.0 * np.sqrt((k + 0.5) / 256 + 0.03)
    for k in range(len(radiance)):
        scale = gain * vignette[k] if len(vignette) else gain
        place = offsets[k // width] + 3 * (k % width)
        for a in range(3):
            signal = min(radiance[k, a] * scale, 1.0)
            value = signal + table[(place + a) & mask] * spread[int(signal * 255.99)]
            out[k, a] = curve[int(_clip(value, 0.0, 1.0) * 4095 + 0.5)]
