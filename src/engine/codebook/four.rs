//! Four lines of the table beside each other: a code that finds its own line full goes on to the others first.

use super::entry::{Word, common_marks};
use super::line::{Line, PLACES, empty_place};
use super::moment::Turn;

/// Lines that a code tries beside each other, its own among them. More of them are read than where each further one lies
/// anywhere, but on a page that the core has just found.
pub(super) const BESIDE: u32 = 4;

const LINES: usize = BESIDE as usize;

type Four = [Line; LINES];

/// Takes out of four lines what is of a turn. What is left in another line than its own moves to the nearest one with room:
/// first there, and then away from here, so that it is somewhere at any moment. Marks stay that something needs: what left
/// the four has its marks on all of its lines, and what is in another line of it than its own is seen.
#[inline]
pub(super) fn expire(four: &Four, turn: Turn) {
    let mut words = four.each_ref().map(|line| line.expire(turn));
    let mut marks = [std::array::from_fn(|place| common_marks(words.each_ref().map(|line| line[place]))); LINES];
    let mut strays = strays(&words);
    while strays != 0 {
        let nth = strays.trailing_zeros() as usize % (LINES * PLACES);
        strays &= strays - 1;
        let (at, place) = (nth / PLACES, nth % PLACES);
        let word = words[at][place];
        let (own, marked) = (word.fingerprint().own_line(), word.fingerprint().marked_place());
        let distance = own ^ at;
        let room = |distance: usize| Some((distance, empty_place(&words[own ^ distance])?));
        let nearer = (0..distance).find_map(room);
        if let Some((nearer, empty)) = nearer {
            four[own ^ nearer].put(empty, word, four[at].device(place));
            four[at].clear(place);
            (words[own ^ nearer][empty], words[at][place]) = (word, Word::default());
        }
        let distance = nearer.map_or(distance, |(nearer, _)| nearer);
        (0..distance).for_each(|before| marks[own ^ before][marked] = marks[own ^ before][marked].passed(word));
    }
    for ((line, words), marks) in four.iter().zip(&words).zip(&marks) {
        line.mark(words, marks);
    }
}

/// Words whose entries have their own line elsewhere in the four, a bit for each.
#[inline]
fn strays(words: &[[Word; PLACES]; LINES]) -> u32 {
    let words = words.as_flattened().iter().enumerate();
    let is_stray = |nth: usize, word: Word| !word.is_empty() & (word.fingerprint().own_line() != nth / PLACES);
    words.fold(0, |all, (nth, word)| all | u32::from(is_stray(nth, *word)) << nth)
}
