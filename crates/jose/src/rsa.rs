//! What an RSA public key must be like before it is used.

use crate::verifying::KeyError;

const MIN_BITS: usize = 2048;
const MAX_BITS: usize = 4096;
const MIN_EXPONENT: u64 = 65_537;
/// The largest that AWS-LC takes.
const MAX_EXPONENT: u64 = (1 << 33) - 1;

/// Checks the modulus and exponent, both big-endian without leading zeros.
pub(crate) fn check(modulus: &[u8], exponent: &[u8]) -> Result<(), KeyError> {
    let bits = bit_length(modulus);
    if !(MIN_BITS..=MAX_BITS).contains(&bits) {
        return Err(KeyError::RsaModulusLength { bits });
    }
    let exponent = integer(exponent).filter(|e| (MIN_EXPONENT..=MAX_EXPONENT).contains(e) && e % 2 == 1);
    if exponent.is_none() {
        return Err(KeyError::RsaExponent);
    }
    if modulus.last().is_none_or(|low| low % 2 == 0) || is_roca(modulus) {
        return Err(KeyError::WeakRsaModulus);
    }
    Ok(())
}

fn bit_length(number: &[u8]) -> usize {
    let Some(first) = number.first() else { return 0 };
    // At most 8 leading zeros: no overflow where there is a byte.
    number.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(8)
}

fn integer(bytes: &[u8]) -> Option<u64> {
    if bytes.len() > 8 {
        return None;
    }
    Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// Whether the modulus has the fingerprint of Infineon's broken generator (ROCA, CVE-2017-15361): its
/// primes, and so their product, are powers of 65537 modulo every small prime. A sound modulus has it
/// with a chance of about one in 2^27.
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101,
        103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|&prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        is_power_of_65537(rest, prime)
    })
}

fn is_power_of_65537(number: u32, prime: u32) -> bool {
    let mut power = 1;
    // The order of the subgroup divides prime - 1.
    for _ in 1..prime {
        if power == number {
            return true;
        }
        power = power * (65_537 % prime) % prime;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_lengths_are_exact() {
        assert_eq!(bit_length(&[]), 0);
        assert_eq!(bit_length(&[1]), 1);
        assert_eq!(bit_length(&[0x80]), 8);
        assert_eq!(bit_length(&[1, 0]), 9);
    }

    #[test]
    fn powers_are_told_from_other_numbers() {
        // 65537 mod 7 is 3, a generator; 65537 mod 3 is 2; 65537 mod 11 is 10, which has order 2.
        assert!((1..7).all(|n| is_power_of_65537(n, 7)));
        assert!(is_power_of_65537(1, 11) && is_power_of_65537(10, 11));
        assert!(!is_power_of_65537(2, 11) && !is_power_of_65537(0, 11));
    }

    #[test]
    fn size_exponent_and_parity_are_checked() {
        // Odd, and 2 modulo 11, so without the fingerprint.
        let mut modulus = vec![0xff; 256];
        while is_roca(&modulus) {
            *modulus.last_mut().unwrap() -= 2;
        }
        let e = [1, 0, 1];
        assert_eq!(check(&modulus, &e), Ok(()));
        assert_eq!(check(&modulus[..255], &e), Err(KeyError::RsaModulusLength { bits: 2040 }));
        assert_eq!(check(&[0xff; 513], &e), Err(KeyError::RsaModulusLength { bits: 4104 }));
        modulus[0] = 0x7f;
        assert_eq!(check(&modulus, &e), Err(KeyError::RsaModulusLength { bits: 2047 }));
        modulus[0] = 0xff;
        for bad in [
            &[][..],
            &[1],
            &[3],
            &[17],
            &[1, 0, 0],
            &[1, 0, 2],
            &[2, 0, 0, 0, 1],
            &[1, 0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(check(&modulus, bad), Err(KeyError::RsaExponent), "{bad:?}");
        }
        modulus[255] = 0xfe;
        assert_eq!(check(&modulus, &e), Err(KeyError::WeakRsaModulus));
    }
}
