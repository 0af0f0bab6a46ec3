//! Tones: made for one phone to play, found again in what the other one recorded.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// Samples per second of G.711.
const RATE: u32 = 8000;
/// A recording is judged in pieces of this length: 0.1 s.
const WINDOW: usize = RATE as usize / 10;
/// The share of a piece's power that must be in the tone.
const SHARE_MIN: f64 = 0.8;
/// The mean square below which a piece is silence.
const POWER_MIN: f64 = 10_000.0;

/// Writes seconds of a tone as a WAV file.
pub fn write_tone(path: &Path, hertz: u32, seconds: u32) -> Result<()> {
    let samples: Vec<i16> = (0..RATE * seconds).map(|n| tone_sample(hertz, n)).collect();
    let length = u32::try_from(samples.len() * 2).context("the tone is too long")?;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend([1u16, 1].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend([RATE, RATE * 2].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend([2u16, 16].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend(b"data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(samples.into_iter().flat_map(i16::to_le_bytes));
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn tone_sample(hertz: u32, number: u32) -> i16 {
    let turn = f64::from(hertz) * f64::from(number) / f64::from(RATE);
    // The sine is within ±1, so the product is within the range of i16.
    (8000.0 * (TAU * turn).sin()) as i16
}

/// The seconds of a recording in which the tone is nearly all there is.
pub fn seconds_of_tone(path: &Path, hertz: u32) -> Result<f64> {
    let samples = read_wav(path)?;
    let pieces = samples.chunks_exact(WINDOW).filter(|piece| is_tone(piece, hertz)).count();
    Ok(pieces as f64 * WINDOW as f64 / f64::from(RATE))
}

fn is_tone(piece: &[f64], hertz: u32) -> bool {
    let power = piece.iter().map(|sample| sample * sample).sum::<f64>() / piece.len() as f64;
    power >= POWER_MIN && goertzel(piece, hertz) / power >= SHARE_MIN
}

/// The power of the part of the samples that swings with this frequency.
fn goertzel(samples: &[f64], hertz: u32) -> f64 {
    let count = samples.len() as f64;
    let step = TAU * f64::from(hertz) / f64::from(RATE);
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (sample + 2.0 * step.cos() * last - before, last);
    }
    let magnitude = last * last + before * before - 2.0 * step.cos() * last * before;
    2.0 * magnitude / (count * count)
}

/// The samples of a WAV file of one channel with 16 bits at [`RATE`].
fn read_wav(path: &Path) -> Result<Vec<f64>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE"), "not a WAV file");
    let mut rest = &bytes[12..];
    while let Some((head, body)) = rest.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        // A recorder that was killed leaves a length that is too large or 0.
        let length = if length == 0 { body.len() } else { length.min(body.len()) };
        match &head[..4] {
            b"fmt " => ensure!(
                body.get(2..8) == Some(&[1, 0, 0x40, 0x1f, 0, 0]),
                "not one channel of {RATE} samples per second"
            ),
            b"data" => {
                let pairs = body[..length].chunks_exact(2);
                return Ok(pairs.map(|p| f64::from(i16::from_le_bytes([p[0], p[1]]))).collect());
            }
            _ => {}
        }
        rest = &body[length..];
    }
    bail!("{} has no samples", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_found_by_its_frequency_and_no_other_is() {
        let path = std::env::temp_dir().join(format!("tone-{}.wav", std::process::id()));
        write_tone(&path, 440, 2).expect("the file can be written");

        let found = [300, 440, 450, 1000].map(|hertz| seconds_of_tone(&path, hertz).expect("WAV"));

        fs::remove_file(&path).expect("it is there");
        assert_eq!(found, [0.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn silence_and_noise_are_no_tone() {
        let silence = vec![0.0; WINDOW];
        let mut state = 1u32;
        let noise: Vec<f64> = (0..WINDOW)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f64::from(state >> 16) - 32_768.0
            })
            .collect();

        assert!(!is_tone(&silence, 440));
        assert!(!is_tone(&noise, 440));
    }
}
