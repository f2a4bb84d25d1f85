//! Small pictures: grey images as PNG data addresses, spike rasters as SVG.

use std::io::Write;

use flate2::{Compression, Crc, write::ZlibEncoder};

use super::{Image, Raster, html::escape};

/// A grey PNG (8 bits, no filter) as a `data:` address.
///
/// The image must hold `width × height` pixels ([`super::Page::html`] checks it).
pub(super) fn data_address(image: &Image) -> std::io::Result<String> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::with_capacity(13);
    header.extend((image.width as u32).to_be_bytes());
    header.extend((image.height as u32).to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    chunk(&mut png, b"IHDR", &header);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    for row in image.pixels.chunks(image.width) {
        zlib.write_all(&[0])?;
        zlib.write_all(row)?;
    }
    chunk(&mut png, b"IDAT", &zlib.finish()?);
    chunk(&mut png, b"IEND", &[]);
    Ok(format!("data:image/png;base64,{}", base64(&png)))
}

fn chunk(png: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    png.extend((data.len() as u32).to_be_bytes());
    png.extend(name);
    png.extend(data);
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(data);
    png.extend(crc.sum().to_be_bytes());
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(data.len().div_ceil(3) * 4);
    for group in data.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (i, &b)| bits | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { digit as char } else { '=' });
        }
    }
    out
}

/// Width and height of the field of spikes, in pixels.
const FIELD: (u32, u32) = (330, 168);

/// A spike raster: time to the right, neurons upwards, one mark per spike.
pub(super) fn raster(raster: &Raster) -> String {
    let (width, height) = FIELD;
    let (left, bottom) = (34, 30);
    let (steps, neurons) = (raster.steps.max(1), raster.neurons.max(1));
    // Upright ticks of a few pixels, narrower where steps are.
    let wide = format!("{:.2}", (5.0 * f64::from(steps) / f64::from(width)).min(0.7));
    let mut marks = String::new();
    for (step, neuron) in &raster.spikes {
        marks.push_str(&format!("M{step} {}h{wide}v1h-{wide}z", neurons - 1 - neuron));
    }
    let alt = format!(
        "Spike raster of {}: {} spikes of {} neurons in {} steps",
        raster.layer,
        raster.spikes.len(),
        raster.neurons,
        raster.steps
    );
    format!(
        r##"<svg class="raster" role="img" aria-label="{alt}" viewBox="0 0 {w} {h}"><rect class="field" x="{left}.5" y=".5" width="{width}" height="{height}"/><svg x="{left}.5" y=".5" width="{width}" height="{height}" viewBox="0 0 {steps} {neurons}" preserveAspectRatio="none"><path class="spikes" d="{marks}"/></svg><text x="{lx}" y="10" text-anchor="end">{neurons_label}</text><text x="{lx}" y="{height}" text-anchor="end">1</text><text transform="translate(11 {cy}) rotate(-90)" text-anchor="middle">neuron</text><text x="{left}" y="{ty}">1</text><text x="{cx}" y="{ty}" text-anchor="middle">step</text><text x="{rx}" y="{ty}" text-anchor="end">{steps_label}</text></svg>"##,
        alt = escape(&alt),
        w = left + width + 1,
        h = height + bottom - 8,
        lx = left - 4,
        cy = height / 2,
        ty = height + 15,
        cx = left + width / 2,
        rx = left + width,
        neurons_label = raster.neurons,
        steps_label = raster.steps,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn base64_of_the_standard() {
        // RFC 4648, section 10.
        for (text, code) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), code);
        }
    }

    #[test]
    fn png_holds_the_pixels() {
        let image = Image { width: 3, height: 2, pixels: vec![0, 1, 2, 250, 251, 255] };
        let address = data_address(&image).unwrap();
        let png = unbase64(address.strip_prefix("data:image/png;base64,").unwrap());
        assert_eq!(&png[12..16], b"IHDR");
        assert_eq!(&png[16..24], &[0, 0, 0, 3, 0, 0, 0, 2]);
        let length = u32::from_be_bytes(png[33..37].try_into().unwrap()) as usize;
        assert_eq!(&png[37..41], b"IDAT");
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&png[41..41 + length]).read_to_end(&mut rows).unwrap();
        assert_eq!(rows, [0, 0, 1, 2, 0, 250, 251, 255]);
        // The CRC of an empty IEND chunk is known.
        assert!(png.ends_with(&[0xae, 0x42, 0x60, 0x82]));
    }

    fn unbase64(text: &str) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let digits: Vec<u8> = text.bytes().filter(|&c| c != b'=').map(value).collect();
        let bits = |g: &[u8]| g.iter().enumerate().fold(0u32, |b, (i, &d)| b | u32::from(d) << (18 - 6 * i));
        digits.chunks(4).flat_map(|g| bits(g).to_be_bytes()[1..g.len()].to_vec()).collect()
    }

    #[test]
    fn raster_has_one_mark_per_spike() {
        let it =
            Raster { layer: "a<b".into(), steps: 5, neurons: 4, of: 9, spikes: vec![(0, 0), (4, 3), (2, 1)] };
        let svg = raster(&it);
        assert_eq!(svg.matches("v1h-").count(), 3);
        assert!(svg.contains("M0 3h") && svg.contains("M4 0h"), "neuron 0 is at the bottom");
        assert!(svg.contains("a&lt;b: 3 spikes") && !svg.contains("a<b"));
        assert!(raster(&Raster::default()).contains("0 spikes"));
    }
}
