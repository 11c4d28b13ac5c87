//! How much a string looks like words: pairs of neighbouring letters, weighed by how often they stand in
//! the words of source code and documentation.
//!
//! The table has a row for the beginning of a word and one for each letter, and a column for each letter
//! that follows: ten times the binary logarithm of how much more often the pair stands in a word than in a
//! random string. Made from the words that occur at least eight times in 340 MB of Rust and Python sources
//! and their documentation: `cargo run -p safety --example figures -- letters FILE...` makes it again.

use std::sync::LazyLock;

const TABLE: &str = include_str!("rules/letters.txt");

static PAIRS: LazyLock<Vec<[i16; 26]>> = LazyLock::new(|| {
    let row = |line: &str| {
        let mut row = [0; 26];
        for (cell, number) in row.iter_mut().zip(line.split(' ')) {
            *cell = number.parse().unwrap_or(0);
        }
        row
    };
    TABLE.lines().map(row).collect()
});

/// Letters whose mean weight is below this are no word: words of many languages and names of programs have
/// 0.4 and more, random letters about -1.
const WORD: f32 = 0.2;

/// True when the letters of a string make no words. Fewer than four say nothing.
pub(super) fn are_random(value: &[u8]) -> bool {
    let (weight, letters) = weigh(value);
    letters >= 4 && weight < WORD * letters as f32
}

/// True when the letters of a string make words.
pub(super) fn are_words(value: &[u8]) -> bool {
    let (weight, letters) = weigh(value);
    letters >= 4 && weight > 2.0 * WORD * letters as f32
}

/// The sum over all letters, each weighed by what stands before it, and how many there are.
fn weigh(value: &[u8]) -> (f32, usize) {
    let mut sum = 0i32;
    let mut letters = 0;
    let mut before: Option<u8> = None;
    for byte in value {
        if byte.is_ascii_alphabetic() {
            // `camelCase` begins a word.
            let begins = before.is_some_and(|b| b.is_ascii_lowercase() && byte.is_ascii_uppercase());
            let row = match before {
                Some(letter) if !begins => usize::from(letter.to_ascii_lowercase() - b'a') + 1,
                _ => 0,
            };
            let column = usize::from(byte.to_ascii_lowercase() - b'a');
            sum += i32::from(PAIRS.get(row).map_or(0, |row| row[column]));
            letters += 1;
        }
        before = byte.is_ascii_alphabetic().then_some(*byte);
    }
    (sum as f32 / 10.0, letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_random_letters() {
        for word in ["centipede", "postgres", "getPassword", "next_page_token", "kubernetes", "supersecret"] {
            assert!(are_words(word.as_bytes()) && !are_random(word.as_bytes()), "{word}");
        }
        for random in ["wljlfbomjy", "ptrhiluqleru", "tfnyifq", "Kp4Qx7Rm2Sn5Tb8Vw3Yz"] {
            assert!(are_random(random.as_bytes()) && !are_words(random.as_bytes()), "{random}");
        }
        assert!(!are_random(b"x7!") && !are_words(b""));
    }

    #[test]
    fn the_table_is_whole() {
        assert_eq!(PAIRS.len(), 27);
        assert!(
            TABLE
                .lines()
                .all(|line| line.split(' ').filter(|cell| cell.parse::<i16>().is_ok()).count() == 26)
        );
    }
}
