//! The demo's tokenizer: byte-level BPE of 1,000 entries trained on the training text.
//!
//! GPT-2's pre-tokenizer without a prefix space, all 256 bytes in the alphabet (no text is unknown), `<|endoftext|>` as id 0 for beginning
//! and end. Encoding adds no special token by itself.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder, normalizers::NormalizerWrapper};

/// Entries of the vocabulary, the special one included.
const VOCAB_SIZE: usize = 1000;
/// Beginning and end of a text.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Trains on `text` and returns the contents of `tokenizer.json`.
///
/// # Errors
/// When the `tokenizers` crate refuses to train or to write.
pub(crate) fn tokenizer_json(text: &str) -> Result<String, String> {
    let describe = |error: tokenizers::Error| format!("cannot train the demo tokenizer: {error}");
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::default()
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(ByteLevel::new(false, false, true)))
        .with_decoder(Some(bytes))
        .build()
        .map_err(describe)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCAB_SIZE)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build();
    tokenizer.train(&mut trainer, text.split_inclusive("\n\n")).map_err(describe)?;
    tokenizer.to_string(true).map_err(describe)
}
