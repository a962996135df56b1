//! Terms in texts: which words a text has, and how often it has the terms that somebody asks for.
//!
//! A word is a run of letters and digits (of any script), in lower case; whatever else stands in a text only parts
//! words. A term is one to three words that follow each other, whatever parts them. Of a text the first
//! [`MOST_WORDS`] words are looked at, and a word of more than [`LONGEST_WORD`] bytes is none of any term.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;

/// Words of a text that are looked at: a book of 150 pages. So no term stands in it more often than a u16 can hold.
pub(super) const MOST_WORDS: usize = 50_000;
/// Bytes of the longest word that a term can have.
pub(super) const LONGEST_WORD: usize = 64;
/// Most words of a term.
pub(super) const MOST_OF_TERM: usize = 3;

/// How often terms stand in a text: the numbers of those that do, ascending, and how many times.
pub(super) type Found = Box<[(u16, u16)]>;

/// Terms with a number each.
#[derive(Default, Debug)]
pub(super) struct Terms {
    /// From 1 on.
    words: HashMap<Box<str>, u32, FixedState>,
    /// By the numbers of their words, with 0 before those of a short one.
    by_words: HashMap<[u32; MOST_OF_TERM], u16, FixedState>,
    /// Words of the longest term.
    longest: usize,
}

/// Gives the words of a text in their order; an empty one for a word that is too long.
pub fn words(text: &str, each: &mut dyn FnMut(&str)) {
    let (mut word, mut count) = (String::new(), 0);
    for c in text.chars().chain([' ']) {
        if c.is_alphanumeric() {
            // Of a long word no more is kept than tells that it is one.
            if word.len() <= LONGEST_WORD {
                // Some letters become two signs, of which one is a mark.
                word.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
            }
        } else if !word.is_empty() {
            each(if word.len() <= LONGEST_WORD { &word } else { "" });
            word.clear();
            count += 1;
            if count == MOST_WORDS {
                return;
            }
        }
    }
}

/// The words of a term as it was written, however many.
pub(super) fn words_of(term: &str) -> Vec<String> {
    let mut all = Vec::new();
    words(term, &mut |word| all.push(word.to_owned()));
    all
}

impl Terms {
    /// The number of a term of one to three words; a new one if it has none yet.
    pub(super) fn number(&mut self, term: &[String]) -> u16 {
        let mut key = [0; MOST_OF_TERM];
        for (place, word) in key.iter_mut().rev().zip(term.iter().rev()) {
            let next = self.words.len() as u32 + 1;
            *place = *self.words.entry(word.as_str().into()).or_insert(next);
        }
        self.longest = self.longest.max(term.len());
        let next = self.by_words.len() as u16;
        *self.by_words.entry(key).or_insert(next)
    }

    /// How often the terms stand in a text.
    pub(super) fn find(&self, text: &str) -> Found {
        let mut found: BTreeMap<u16, u16> = BTreeMap::new();
        // The numbers of the last words; 0 is a word of no term.
        let mut last = [0; MOST_OF_TERM];
        words(text, &mut |word| {
            last.rotate_left(1);
            last[MOST_OF_TERM - 1] = self.words.get(word).copied().unwrap_or(0);
            for length in 1..=self.longest {
                let start = MOST_OF_TERM - length;
                if last[start] == 0 {
                    break;
                }
                let mut key = last;
                key[..start].fill(0);
                if let Some(term) = self.by_words.get(&key) {
                    *found.entry(*term).or_default() += 1;
                }
            }
        });
        found.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        for (text, expected) in [
            ("Chest-pain, no FEVER (38.5)", &["chest", "pain", "no", "fever", "38", "5"][..]),
            ("\u{c4}tiologie: \u{df}\u{3a3}", &["\u{e4}tiologie", "\u{df}\u{3c3}"]),
            ("\u{130}nfarkt", &["infarkt"]),
            (" \n--\t", &[]),
            ("", &[]),
            ("\u{80ba}\u{708e}3", &["\u{80ba}\u{708e}3"]),
        ] {
            assert_eq!(words_of(text), expected, "{text}");
        }
    }

    #[test]
    fn long_words_and_long_texts_are_bounded() {
        let longest = "x".repeat(LONGEST_WORD);
        assert_eq!(words_of(&format!("a {longest} {longest}x b")), ["a", longest.as_str(), "", "b"]);
        let mut terms = Terms::default();
        let term = terms.number(&words_of("a"));
        assert_eq!(*terms.find(&"a ".repeat(MOST_WORDS + 10)), [(term, MOST_WORDS as u16)]);
    }

    #[test]
    fn terms_are_words_that_follow_each_other() {
        let mut terms = Terms::default();
        let all =
            ["pain", "chest pain", "no chest pain", "pain pain", "fever"].map(|term| terms.number(&words_of(term)));
        assert_eq!((all, terms.number(&words_of("Chest, PAIN"))), ([0, 1, 2, 3, 4], 1));
        for (text, found) in [
            ("No chest pain. Pain, pain!", &[(0, 3), (1, 1), (2, 1), (3, 2)][..]),
            ("no pain in the chest; fever", &[(0, 1), (4, 1)]),
            ("chest x pain", &[(0, 1)]),
            ("painful", &[]),
            ("", &[]),
        ] {
            assert_eq!(*terms.find(text), *found, "{text}");
        }
        assert!(Terms::default().find("pain").is_empty());
    }

    proptest! {
        #[test]
        fn a_term_is_found_where_its_words_are(text in "[aAbBcC .,-]{0,60}", term in "[abc]( [abc]){0,2}") {
            let mut terms = Terms::default();
            let wanted = words_of(&term);
            terms.number(&words_of("c c c"));
            let number = terms.number(&wanted);
            let count = words_of(&text).windows(wanted.len()).filter(|window| *window == wanted).count();
            let found = terms.find(&text).iter().find(|(term, _)| *term == number).map_or(0, |(_, count)| *count);
            prop_assert_eq!(usize::from(found), count);
        }

        #[test]
        fn any_text_has_words_that_are_words_again(text in ".{0,15}") {
            let first = words_of(&text);
            prop_assert_eq!(words_of(&first.join(" ")), first);
        }
    }
}
