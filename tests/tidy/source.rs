//! A Rust text with its code and its comments told apart, line for line.

use std::fmt;

/// A rule that is broken: where, and what would be right.
#[derive(Debug, PartialEq)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A source file. `text`, `code` and `comments` have the same length, so that positions agree.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
    /// Without comments and without what stands in strings.
    pub code: String,
    /// Nothing but comments.
    pub comments: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        Self { path: path.into(), text: text.into(), code, comments }
    }

    /// The finding at a position of `text`.
    pub fn finding(&self, at: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line: self.line(at) + 1, what: what.into() }
    }

    /// Number of the line at a position, from 0.
    pub fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The code with every item under `#[cfg(test)]` blanked.
    pub fn code_without_tests(&self) -> String {
        let mut code = self.code.clone().into_bytes();
        for (at, mark) in self.code.match_indices("#[cfg(test)]") {
            let end = item_end(&code, at + mark.len());
            blank(&mut code[at..end]);
        }
        String::from_utf8(code).expect("only ASCII was written")
    }

    /// Names of the modules that are in files of their own and only there in tests: `#[cfg(test)] mod NAME;`.
    pub fn test_modules(&self) -> Vec<&str> {
        let after = self.code.match_indices("#[cfg(test)]").map(|(at, mark)| &self.code[at + mark.len()..]);
        after
            .filter_map(|rest| rest.trim_start().strip_prefix("mod "))
            .filter_map(|rest| {
                rest.split_once([';', '{']).filter(|(name, _)| rest[name.len()..].starts_with(';'))
            })
            .map(|(name, _)| name.trim())
            .collect()
    }
}

/// Positions of a word of code: not a part of a longer name.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let name = |byte: Option<&u8>| byte.is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric());
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let bytes = code.as_bytes();
        let before = if at == 0 { None } else { bytes.get(at - 1) };
        !name(before) && !name(bytes.get(at + word.len()))
    })
}

/// Where the item that begins after `from` ends: at its `;` or its closing brace.
fn item_end(code: &[u8], from: usize) -> usize {
    let mut depth = 0;
    for (i, &byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 && byte == b'}' {
                    return i + 1;
                }
            }
            b';' if depth == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// Code and comments; where the one has text, the other has spaces. Bytes beyond ASCII become spaces in code.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut code, mut comments) = (bytes.to_vec(), bytes.to_vec());
    blank(&mut comments);
    let mut i = 0;
    while i < bytes.len() {
        let end = comment_end(bytes, i);
        if end > i {
            comments[i..end].copy_from_slice(&bytes[i..end]);
            blank(&mut code[i..end]);
            i = end;
            continue;
        }
        let end = literal_end(bytes, i);
        if end > i {
            blank(&mut code[i + 1..end]);
            i = end;
            continue;
        }
        if !bytes[i].is_ascii() {
            code[i] = b' ';
        }
        i += 1;
    }
    (
        String::from_utf8_lossy(&code).into_owned(),
        String::from_utf8(comments).expect("whole comments are UTF-8"),
    )
}

/// End of the comment that begins at `i`, or `i`.
fn comment_end(bytes: &[u8], i: usize) -> usize {
    if bytes[i..].starts_with(b"//") {
        return bytes[i..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |n| i + n);
    }
    let (mut at, mut depth) = (i, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] if depth > 0 => (at, depth) = (at + 2, depth - 1),
            _ if depth == 0 => return at,
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// End of the string or character that begins at `i`, or `i`.
fn literal_end(bytes: &[u8], i: usize) -> usize {
    let word_before = i > 0 && (bytes[i - 1] == b'_' || bytes[i - 1].is_ascii_alphanumeric());
    match bytes[i] {
        b'"' => quoted_end(bytes, i, b'"'),
        b'r' if !word_before || matches!(bytes[i - 1], b'b' | b'c') => {
            let hashes = bytes[i + 1..].iter().take_while(|&&byte| byte == b'#').count();
            if bytes.get(i + 1 + hashes) != Some(&b'"') {
                return i;
            }
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let start = i + 2 + hashes;
            let found = bytes[start..].windows(close.len()).position(|window| window == close);
            found.map_or(bytes.len(), |n| start + n + close.len())
        }
        // A lifetime has no second quote right after its first letter.
        b'\'' if bytes.get(i + 1) == Some(&b'\\') => quoted_end(bytes, i, b'\''),
        b'\'' => {
            let rest = std::str::from_utf8(&bytes[i + 1..]).unwrap_or_default();
            let len = rest.chars().next().map_or(0, char::len_utf8);
            if len > 0 && bytes.get(i + 1 + len) == Some(&b'\'') { i + 2 + len } else { i }
        }
        _ => i,
    }
}

fn quoted_end(bytes: &[u8], i: usize, quote: u8) -> usize {
    let mut at = i + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

#[test]
fn code_and_comments_are_told_apart() {
    let text =
        "let a = \"// no\"; // yes 'x'\nlet b = r#\"\"unsafe\"#; /* c /* d */ e */ let f: &'a u8 = &'\\'';\n";
    let source = Source::new("x.rs", text);
    assert_eq!(source.code.len(), text.len());
    assert!(source.comments.contains("// yes 'x'") && source.comments.contains("/* c /* d */ e */"));
    assert!(!source.comments.contains("no"), "{}", source.comments);
    for hidden in ["no", "yes", "unsafe", " c ", "\\"] {
        assert!(!source.code.contains(hidden), "{hidden}: {}", source.code);
    }
    assert!(source.code.contains("let f: &'a u8 = &"), "{}", source.code);
}

#[test]
fn tests_are_left_out() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { if x { y } }\n}\nfn c() {}\n#[cfg(test)]\nmod sample;\nfn d() {}\n";
    let source = Source::new("x.rs", text);
    let code = source.code_without_tests();
    assert!(["fn a", "fn c", "fn d"].iter().all(|item| code.contains(item)), "{code}");
    assert!(!code.contains("fn b") && !code.contains("sample"), "{code}");
    assert_eq!(source.test_modules(), ["sample"]);
    assert_eq!(words(&code, "fn").count(), 3);
}
