//! Chinese, Japanese and Korean: scripts whose words do not all stand between spaces.
//!
//! The matcher compares words. [`spaced`] finds them in such a text: the words that a tool says of itself and the
//! small words of the language are known, and what is left between them is what the request is about. No
//! dictionary of the language is needed, and text in other scripts is left as it is.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use super::phrases;

/// The longest word of a tool or of the lists below, in characters.
const MAX_WORD: usize = 12;

/// Words that say nothing about which tool is meant, longest first where one begins another (the search does that).
const SMALL_WORDS: &str = "\
    请 请问 请帮我 帮我 帮忙 帮 我 我想 我要 想 要 想知道 知道 查 查一下 查询 查询一下 查看 查看一下 查查 看 看看 看一下 告诉 告诉我 \
    给我 一下 今天 今日 明天 昨天 现在 当前 目前 的 是 在 了 吗 呢 吧 啊 怎么样 怎样 怎么 如何 什么 多少 有 能 可以 麻烦 谢谢 你 您 好 你好 \
    請 請問 請幫我 幫我 幫忙 幫 查詢 查詢一下 告訴 告訴我 給我 現在 當前 嗎 麼 怎麼樣 怎樣 怎麼 什麼 麻煩 謝謝 \
    は が を に で の と も へ か ね よ や から まで って です ですか ます ますか でしょうか だ 今日 明日 昨日 今 現在 教えて 教えてください 教えて下さい \
    ください 下さい お願い お願いします 調べて 調べてください 見せて 見せてください 知りたい 知りたいです どう どうですか 何 なに について して ありがとう \
    오늘 오늘의 내일 어제 지금 현재 알려줘 알려 알려주세요 주세요 줘 어때 어때요 어떤 어떻게 좀 해줘 해주세요 가르쳐 가르쳐줘 보여줘 보여주세요 부탁해 \
    부탁합니다 확인해 확인해줘 인가요 이에요 예요 을 를 은 는 이 가 의 에 에서 도 로 으로 와 과";

/// Endings of Korean nouns.
const PARTICLES: [&str; 9] = ["에서", "으로", "의", "은", "는", "을", "를", "에", "도"];

/// True for a character of these scripts.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

/// The text with a space around every word that `known` tells and without small words. What stands in quotation
/// marks stays as it is.
pub(super) fn spaced<'a>(text: &'a str, known: &dyn Fn(&str) -> bool) -> Cow<'a, str> {
    if !text.chars().any(is_unspaced) {
        return Cow::Borrowed(text);
    }
    let quoted = phrases::quoted_spans(text);
    let mut out = String::with_capacity(text.len() * 2);
    // The rest of a run of these scripts that no word was found in yet.
    let mut rest = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if !is_unspaced(c) || quoted.iter().any(|span| span.contains(&at)) {
            flush(&mut out, &mut rest);
            out.push(c);
            at += c.len_utf8();
            continue;
        }
        match word_at(text, at, rest.is_empty(), known) {
            Some((word, tells)) => {
                flush(&mut out, &mut rest);
                if tells {
                    rest.push_str(word);
                    flush(&mut out, &mut rest);
                }
                at += word.len();
            }
            None => {
                rest.push(c);
                at += c.len_utf8();
            }
        }
    }
    flush(&mut out, &mut rest);
    Cow::Owned(out)
}

/// The longest word that begins here, and whether it is the tool's. `fresh` says that no other word goes on here.
fn word_at<'a>(
    text: &'a str,
    at: usize,
    fresh: bool,
    known: &dyn Fn(&str) -> bool,
) -> Option<(&'a str, bool)> {
    let ends = text[at..].char_indices().take(MAX_WORD).take_while(|(_, c)| is_unspaced(*c));
    let mut words: Vec<&str> = ends.map(|(end, c)| &text[at..at + end + c.len_utf8()]).collect();
    words.reverse();
    words.into_iter().find_map(|word| match () {
        () if known(word) => Some((word, true)),
        () if is_small(word) && !is_inside_a_word(text, at, fresh, word) => Some((word, false)),
        () => None,
    })
}

fn is_small(word: &str) -> bool {
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| SMALL_WORDS.split(' ').collect());
    WORDS.contains(word)
}

/// One letter of Kana or Hangul is a particle only at the end of something: Kana after another script or before one,
/// Hangul after a word that was found and before no other letter. Elsewhere it is part of a word.
fn is_inside_a_word(text: &str, at: usize, fresh: bool, word: &str) -> bool {
    let mut letters = word.chars();
    let (Some(c), None) = (letters.next(), letters.next()) else { return false };
    let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
    let kana = |c: char| matches!(c, '\u{3041}'..='\u{309f}');
    let hangul = |c: char| matches!(c, '\u{ac00}'..='\u{d7a3}');
    kana(c) && before.is_some_and(kana) && after.is_some_and(kana)
        || hangul(c) && (!fresh || after.is_some_and(hangul))
}

/// Ends a word. One of Hangul loses its particle.
fn flush(out: &mut String, rest: &mut String) {
    if rest.is_empty() {
        return;
    }
    let cut = PARTICLES.iter().filter_map(|particle| rest.strip_suffix(particle));
    let noun = cut.filter(|noun| noun.chars().count() >= 2).min_by_key(|noun| noun.len());
    let noun = noun.filter(|noun| noun.chars().all(|c| matches!(c, '\u{ac00}'..='\u{d7a3}'))).unwrap_or(rest);
    out.push(' ');
    out.push_str(noun);
    out.push(' ');
    rest.clear();
}

/// The pairs of neighbouring characters of a word of these scripts, by which two texts are compared where nobody
/// says where words end; a word of one or two characters is itself.
pub(super) fn pairs(word: &str) -> Option<Vec<String>> {
    if word.is_empty() || !word.chars().all(is_unspaced) {
        return None;
    }
    let letters: Vec<char> = word.chars().collect();
    Some(match letters.len() {
        1 => vec![word.to_owned()],
        _ => letters.windows(2).map(|pair| pair.iter().collect()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let known = |word: &str| ["天气", "天氣", "天気", "날씨"].contains(&word);
        spaced(text, &known).split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_are_found_between_the_known_ones() {
        for (text, expected) in [
            ("请查一下北京今天的天气", &["北京", "天气"][..]),
            ("北京天气", &["北京", "天气"]),
            ("請幫我查詢台北現在的天氣", &["台北", "天氣"]),
            ("東京の今日の天気を教えてください", &["東京", "天気"]),
            ("さいたまの天気は？", &["さいたま", "天気", "？"]),
            ("ニューヨークの天気", &["ニューヨーク", "天気"]),
            ("서울의 오늘 날씨를 알려 주세요", &["서울", "날씨"]),
            ("부산 날씨 어때?", &["부산", "날씨", "?"]),
            ("은행 날씨", &["은행", "날씨"]),
            ("weather in 北京", &["weather", "in", "北京"]),
            ("the weather", &["the", "weather"]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn what_stands_in_quotation_marks_stays_whole() {
        assert_eq!(spaced("天气「我的天气」", &|word| word == "天气"), " 天气 「我的天气」");
    }

    #[test]
    fn pairs_of_characters_stand_for_words() {
        assert_eq!(pairs("天气预报").unwrap(), ["天气", "气预", "预报"]);
        assert_eq!((pairs("雨").unwrap(), pairs("rain"), pairs("")), (vec!["雨".to_owned()], None, None));
    }
}
