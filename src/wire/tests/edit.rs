use proptest::prelude::*;

use super::*;
use crate::wire::fixtures::framed;

fn span(start: u32, end: u32) -> Span {
    Span { start, end }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a list of pieces: each is kept, or replaced.
    #[test]
    fn what_no_edit_names_keeps_its_bytes(
        pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..9), proptest::option::of("[a-z]{0,9}")), 0..12),
    ) {
        let payload: Vec<u8> = pieces.iter().flat_map(|(old, _)| old.clone()).collect();
        let expected: Vec<u8> =
            pieces.iter().flat_map(|(old, new)| new.as_ref().map_or(old.clone(), |new| new.clone().into_bytes())).collect();
        let mut edits = Edits::new();
        let mut at = 4;
        for (old, new) in &pieces {
            let end = at + old.len() as u32;
            if let Some(new) = new {
                edits.replace(span(at, end), true, |writer| writer.out.extend_from_slice(new.as_bytes()));
            }
            at = end;
        }
        let frame = framed(&payload);
        let edited = edits.apply(&frame).unwrap();
        prop_assert_eq!(&edited, &framed(&expected));
        if edits.is_empty() {
            prop_assert_eq!(edited.as_ptr(), frame.as_ptr(), "nothing is copied without an edit");
        }
    }
}

#[test]
fn misplaced_edits_are_refused() {
    let frame = framed(&[1, 2, 3, 4, 5, 6]);
    for spans in [&[span(0, 2)][..], &[span(6, 8), span(7, 9)], &[span(8, 9), span(5, 6)], &[span(9, 12)], &[span(6, 5)], &[span(40, 41)]] {
        let mut edits = Edits::new();
        for span in spans {
            edits.remove(*span);
        }
        assert_eq!(edits.apply(&frame), Err(EditError::Misplaced), "{spans:?}");
    }
}

#[test]
fn a_string_over_kafkas_limit_is_refused() {
    for flexible in [false, true] {
        let mut edits = Edits::new();
        edits.replace(span(4, 4), flexible, |writer| writer.string(&"x".repeat(40_000)));
        assert_eq!(edits.apply(&framed(&[])), Err(EditError::StringTooLong(40_000)));
    }
}

#[test]
fn both_encodings() {
    let written = |flexible, write: fn(&mut Writer<'_>)| {
        let mut edits = Edits::new();
        edits.replace(span(4, 4), flexible, write);
        edits.apply(&framed(&[])).unwrap()[4..].to_vec()
    };
    assert_eq!(written(true, |writer| writer.string("hi")), [3, b'h', b'i']);
    assert_eq!(written(false, |writer| writer.string("hi")), [0, 2, b'h', b'i']);
    assert_eq!(written(true, |writer| writer.nullable_string(None)), [0]);
    assert_eq!(written(false, |writer| writer.nullable_string(None)), [0xff, 0xff]);
    assert_eq!(written(true, |writer| writer.count(200)), [0xc9, 0x01]);
    assert_eq!(written(false, |writer| writer.count(200)), [0, 0, 0, 200]);
    assert_eq!(written(true, |writer| writer.no_tagged_fields()), [0]);
    assert_eq!(written(false, |writer| writer.no_tagged_fields()), [0u8; 0]);
    assert_eq!(written(true, |writer| writer.sized(|value| value.i16(5))), [2, 0, 5]);
}
