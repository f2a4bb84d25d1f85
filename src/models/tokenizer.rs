//! From text to tokens and back: `tokenizer.json`, BERT's `vocab.txt`, or plain bytes.

use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;

use crate::{Error, Result};

/// A tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer(Inner);

#[derive(Clone, Debug)]
enum Inner {
    /// Each byte is a token; 256 ends a text.
    Bytes,
    File(Box<tokenizers::Tokenizer>),
}

/// A text, or two that are judged together, as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens.
    pub ids: Vec<i64>,
    /// 0 for the first text, 1 for the second.
    pub types: Vec<i64>,
}

impl Tokenizer {
    /// Bytes as tokens, and one more for the end: a vocabulary of 257 that needs no file.
    pub fn bytes() -> Self {
        Self(Inner::Bytes)
    }

    /// Reads `tokenizer.json` or else `vocab.txt` in a folder, or such a file itself.
    ///
    /// # Errors
    /// No such file, or not one of that kind.
    pub fn open(path: &Path) -> Result<Self> {
        let (json, vocab) = (path.join("tokenizer.json"), path.join("vocab.txt"));
        let file = match (json.is_file(), vocab.is_file()) {
            (true, _) => &json,
            (_, true) => &vocab,
            _ => path,
        };
        if !file.is_file() {
            return Err(Error::data(path, "there is no tokenizer: neither tokenizer.json nor vocab.txt"));
        }
        let wrong = |error: tokenizers::Error| Error::data(file, format!("not a tokenizer: {error}"));
        if file.extension().is_some_and(|extension| extension == "txt") {
            return word_pieces(file);
        }
        let mut inner = tokenizers::Tokenizer::from_file(file).map_err(wrong)?;
        // Lengths are ours to decide.
        inner.with_padding(None).with_truncation(None).map_err(wrong)?;
        Ok(Self(Inner::File(Box::new(inner))))
    }

    /// Number of tokens.
    pub fn vocab(&self) -> usize {
        match &self.0 {
            Inner::Bytes => 257,
            Inner::File(inner) => inner.get_vocab_size(true),
        }
    }

    /// Tokens of a text, with the special ones that the tokenizer adds if `special`.
    ///
    /// # Errors
    /// The tokenizer refuses.
    pub fn encode(&self, text: &str, special: bool) -> Result<Tokens> {
        self.encode_pair(text, None, special)
    }

    /// Tokens of a text and perhaps a second one. Errors as [`encode`](Self::encode).
    pub fn encode_pair(&self, text: &str, second: Option<&str>, special: bool) -> Result<Tokens> {
        match &self.0 {
            Inner::Bytes => {
                let one = |text: &str, kind| {
                    text.bytes().map(move |byte| (i64::from(byte), kind)).collect::<Vec<_>>()
                };
                let all = [one(text, 0), second.map_or(vec![], |second| one(second, 1))].concat();
                Ok(Tokens {
                    ids: all.iter().map(|x| x.0).collect(),
                    types: all.iter().map(|x| x.1).collect(),
                })
            }
            Inner::File(inner) => {
                let refused =
                    |e: tokenizers::Error| Error::value("a text", e, "one that the tokenizer takes");
                let encoding = match second {
                    Some(second) => inner.encode((text, second), special),
                    None => inner.encode(text, special),
                };
                let encoding = encoding.map_err(refused)?;
                let wide = |numbers: &[u32]| numbers.iter().map(|&n| i64::from(n)).collect();
                Ok(Tokens { ids: wide(encoding.get_ids()), types: wide(encoding.get_type_ids()) })
            }
        }
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// The tokenizer refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        match &self.0 {
            Inner::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Inner::File(inner) => {
                inner.decode(ids, true).map_err(|e| Error::value("tokens", e, "those of the tokenizer"))
            }
        }
    }

    /// The number of a token by its name, such as `</s>`.
    pub fn token(&self, name: &str) -> Option<u32> {
        match &self.0 {
            Inner::Bytes => None,
            Inner::File(inner) => inner.token_to_id(name),
        }
    }

    /// The token that ends a text: one of the usual names, where there is one.
    pub fn end(&self) -> Option<u32> {
        match &self.0 {
            Inner::Bytes => Some(256),
            Inner::File(_) => {
                let names = ["<|end_of_text|>", "<|endoftext|>", "</s>", "<|im_end|>", "[SEP]"];
                names.iter().find_map(|name| self.token(name))
            }
        }
    }
}

/// BERT's: lower case without accents, words cut into the longest known pieces, `[CLS] … [SEP] … [SEP]`.
fn word_pieces(file: &Path) -> Result<Tokenizer> {
    let wrong = |what: String| Error::data(file, what);
    let path = file.to_str().ok_or_else(|| wrong("the path is not UTF-8".into()))?;
    let model = WordPiece::from_file(path).unk_token("[UNK]".into()).build();
    let model = model.map_err(|e| wrong(format!("not a vocabulary: {e}")))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    let id = |name: &str| {
        inner
            .token_to_id(name)
            .ok_or_else(|| wrong(format!("there is no line `{name}`: not a vocabulary of BERT")))
    };
    let ends = BertProcessing::new(("[SEP]".into(), id("[SEP]")?), ("[CLS]".into(), id("[CLS]")?));
    let normalizer = BertNormalizer::new(true, true, None, true);
    inner.with_normalizer(Some(normalizer)).map_err(|e| wrong(format!("no normalizer: {e}")))?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner.with_post_processor(Some(ends));
    inner.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    Ok(Tokenizer(Inner::File(Box::new(inner))))
}
