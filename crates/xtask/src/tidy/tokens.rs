//! Rust tokens without strings and comments: what a search for a word cannot tell apart, and
//! what a syntax tree does not show inside a macro.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// Calls `visit` with every attribute's tokens (what stands between the brackets), in macros too.
pub(super) fn attributes(tokens: &TokenStream, visit: &mut dyn FnMut(&TokenStream)) {
    let mut opened = false;
    for token in tokens.clone() {
        match token {
            TokenTree::Punct(punct) => opened = punct.as_char() == '#' || (opened && punct.as_char() == '!'),
            TokenTree::Group(group) => {
                if opened && group.delimiter() == Delimiter::Bracket {
                    visit(&group.stream());
                }
                attributes(&group.stream(), visit);
                opened = false;
            }
            _ => opened = false,
        }
    }
}

/// Calls `visit` with every identifier and keyword.
pub(super) fn identifiers(tokens: &TokenStream, visit: &mut dyn FnMut(&Ident)) {
    for token in tokens.clone() {
        match token {
            TokenTree::Ident(ident) => visit(&ident),
            TokenTree::Group(group) => identifiers(&group.stream(), visit),
            _ => {}
        }
    }
}
