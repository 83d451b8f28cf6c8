//! The sentry's generator of random bytes: ChaCha20, keyed by the host and rekeyed from its own output.

use crate::sync::SpinLock;

struct Generator {
    key: [u32; 8],
    counter: u64,
}

static GENERATOR: SpinLock<Generator> = SpinLock::new(Generator { key: [0; 8], counter: 0 });

fn quarter(s: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(16);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(12);
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(8);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(7);
}

/// One block of RFC 8439, with a 64-bit counter and no nonce.
fn block(key: &[u32; 8], counter: u64) -> [u8; 64] {
    let mut init = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    init[4..12].copy_from_slice(key);
    init[12] = counter as u32;
    init[13] = (counter >> 32) as u32;
    let mut s = init;
    for _ in 0..10 {
        quarter(&mut s, 0, 4, 8, 12);
        quarter(&mut s, 1, 5, 9, 13);
        quarter(&mut s, 2, 6, 10, 14);
        quarter(&mut s, 3, 7, 11, 15);
        quarter(&mut s, 0, 5, 10, 15);
        quarter(&mut s, 1, 6, 11, 12);
        quarter(&mut s, 2, 7, 8, 13);
        quarter(&mut s, 3, 4, 9, 14);
    }
    let mut out = [0; 64];
    for (i, (word, start)) in s.iter().zip(init).enumerate() {
        out[4 * i..4 * i + 4].copy_from_slice(&word.wrapping_add(start).to_le_bytes());
    }
    out
}

impl Generator {
    fn rekey(&mut self, bytes: &[u8]) {
        for (word, chunk) in self.key.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
    }
}

/// Mixes a seed of the host in.
pub fn seed(bytes: &[u8]) {
    let mut generator = GENERATOR.lock();
    for chunk in bytes.chunks_exact(32) {
        for (word, b) in
            generator.key.clone().iter().enumerate().zip(chunk.chunks_exact(4)).map(|((i, k), b)| (i, (k, b)))
        {
            let (key, b) = b;
            generator.key[word] = key ^ u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
        let next = block(&generator.key, u64::MAX);
        generator.rekey(&next[..32]);
    }
}

/// Fills a buffer. Earlier output cannot be computed from the state that is left.
pub fn fill(buf: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    for chunk in buf.chunks_mut(64) {
        generator.counter += 1;
        let out = block(&generator.key, generator.counter);
        chunk.copy_from_slice(&out[..chunk.len()]);
    }
    let next = block(&generator.key, u64::MAX - 1);
    generator.rekey(&next[..32]);
}

/// Random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_is_chacha20() {
        // RFC 8439, A.1, test vector 1: zero key, zero nonce, counter 0.
        let out = block(&[0; 8], 0);
        assert_eq!(out[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
    }

    #[test]
    fn output_does_not_repeat() {
        seed(&[7; 64]);
        assert_ne!(bytes::<32>(), bytes::<32>());
    }
}
