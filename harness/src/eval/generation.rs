//! Texts of many prompts: shared prefixes once, rows of different lengths together, a finished row's place refilled at once.
//!
//! ```text
//! prompts ──prefix tree──> shared segments, each computed when its first prompt is admitted, freed after its last one ended
//! pass: one token of every active row + the own tokens of newly admitted prompts ──> hidden ──> logits ──> next tokens
//! text of a row ──stop string? end id? enough tokens?──> place free ──> next prompt
//! ```
//! Stop strings are looked for in decoded text. While decoding only the text's end is looked at; a hit there is confirmed on the whole
//! text, and the final cut reads all of it, so that what is returned does not depend on how far a row ran.

use std::rc::Rc;

use candle_core::{DType, Device, Result, Tensor};
use models::generate::Chooser;
use models::{Decoder, KvSegment, Run, Sampling};
use rayon::prelude::*;
use tasks::{Generation, Profile, RequestError, RequestErrorKind};

use super::encode::Codec;
use super::prefix_tree::{self, Node};
use super::score::Budget;

/// One prompt to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Token ids, already cut to fit.
    pub ids: Vec<u32>,
    /// Settings.
    pub options: Generation,
}

/// Hears the texts of finished prompts, by index.
pub type Written<'a> = dyn FnMut(Vec<(usize, std::result::Result<String, RequestError>)>) + 'a;

/// Prompt ids decoded in front of the answer in the canonical profile, so that the decoder keeps the answer's leading space.
const DECODE_CONTEXT_TOK: usize = 4;

/// Tokens looked at for a stop string beyond one per byte of it: its first and last token may hold more, and some decode to nothing.
const TAIL_MARGIN_TOK: usize = 4;

/// Continues every prompt; `done` hears of each finished one.
///
/// # Errors
/// When a forward pass fails. A row whose logits are not numbers fails alone.
pub fn generate_texts(
    decoder: &Decoder,
    codec: &Codec,
    prompts: &[Prompt],
    profile: Profile,
    budget: Budget,
    done: &mut Written<'_>,
) -> Result<()> {
    let mut shared = SharedPrefixes::new(prompts, budget.share_prefixes);
    let mut queue = shared.order.clone().into_iter().peekable();
    let mut rows: Vec<Row<'_>> = Vec::new();
    loop {
        // Refill. A prompt that fits nothing else is admitted alone: its own length is always allowed.
        let mut room = budget.batch_tokens.max(1);
        shared.release();
        let mut cached: usize = rows.iter().map(|row| row.planned_tok).sum::<usize>() + shared.held_tok;
        while let Some(&next) = queue.peek() {
            let prompt = &prompts[next];
            let own = prompt.ids.len() - shared.covered(next);
            let planned = own + prompt.options.max_gen_toks;
            let fits = room > 0
                && rows.len() < budget.decode_rows.max(1)
                && cached + planned + shared.missing_tok(next) <= budget.cache_tokens;
            if !fits && !rows.is_empty() {
                break;
            }
            cached += planned + shared.missing_tok(next); // all of the chain is held from here on
            room = room.saturating_sub(own);
            let before = shared.chain(decoder, prompts, next, budget)?;
            rows.push(Row::new(decoder, next, prompt, before, planned)?);
            queue.next();
        }
        if rows.is_empty() {
            return Ok(());
        }
        // Rows with one chain side by side, so that they read it together.
        rows.sort_by_key(|row| row.before.last().map(|segment| Rc::as_ptr(segment).addr()));
        let finished = step(decoder, codec, prompts, profile, budget, &mut rows)?;
        if !finished.is_empty() {
            done(finished);
        }
    }
}

/// A prompt on its way.
struct Row<'a> {
    prompt: usize,
    before: Vec<Rc<KvSegment>>,
    own: KvSegment,
    /// Positions that `own` has room for.
    planned_tok: usize,
    /// Tokens not yet computed: the rest of the prompt, then the newest token.
    next: Vec<u32>,
    options: &'a Generation,
    generated: Vec<u32>,
    /// Draws tokens; nothing for greedy decoding.
    chooser: Option<Chooser>,
}

impl<'a> Row<'a> {
    fn new(decoder: &Decoder, index: usize, prompt: &'a Prompt, before: Vec<Rc<KvSegment>>, planned_tok: usize) -> Result<Self> {
        let start = before.last().map_or(0, |segment| segment.end());
        let options = &prompt.options;
        let sampling = Sampling::Random { temperature: options.temperature, top_k: None, top_p: None, seed: seed(&prompt.ids) };
        let draws = options.do_sample && options.temperature > 0.0;
        Ok(Self {
            prompt: index,
            own: KvSegment::new(decoder.config(), start, planned_tok),
            before,
            planned_tok,
            next: prompt.ids[start..].to_vec(),
            options,
            generated: Vec::new(),
            chooser: draws.then(|| Chooser::new(sampling, 0)).transpose()?,
        })
    }
}

/// Seed of a prompt's draws: a function of its tokens, so that neither order nor neighbours matter (FNV-1a).
fn seed(ids: &[u32]) -> u64 {
    ids.iter()
        .flat_map(|id| id.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

type Texts = Vec<(usize, std::result::Result<String, RequestError>)>;

/// One pass over all rows; takes the finished ones out.
fn step(
    decoder: &Decoder,
    codec: &Codec,
    prompts: &[Prompt],
    profile: Profile,
    budget: Budget,
    rows: &mut Vec<Row<'_>>,
) -> Result<Texts> {
    // Each row's share of the pass: all it has, cut where a long prompt would go over the bound.
    let mut room = budget.batch_tokens.max(rows.len());
    let mut waiting = rows.len();
    let counts: Vec<usize> = rows
        .iter()
        .map(|row| {
            waiting -= 1;
            let count = row.next.len().min(room - waiting);
            room -= count;
            count
        })
        .collect();
    let parts: Vec<Vec<u32>> = rows.iter_mut().zip(&counts).map(|(row, &count)| row.next.drain(..count).collect()).collect();
    let mut runs: Vec<Run<'_>> = rows
        .iter_mut()
        .zip(&parts)
        .map(|(row, ids)| Run { ids, before: row.before.iter().map(Rc::as_ref).collect(), own: &mut row.own })
        .collect();
    let hidden = decoder.forward_runs(&mut runs)?; // [N, D]
    // The last new token of every row whose prompt is through predicts.
    let ends = counts.iter().scan(0, |end, &count| {
        *end += count;
        Some(*end as u32 - 1)
    });
    let (ready, last): (Vec<usize>, Vec<u32>) = ends.enumerate().filter(|&(at, _)| rows[at].next.is_empty()).unzip();
    if ready.is_empty() {
        return Ok(Vec::new());
    }
    let logits = decoder.logits(&hidden.index_select(&Tensor::new(last, hidden.device())?, 0)?)?; // [rows, V]
    let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let values = logits.flatten_all()?.to_vec1::<f32>()?;
    let best: Vec<Option<u32>> = values.par_chunks(decoder.config().vocab_size).map(argmax).collect();

    let mut ended = vec![None; rows.len()];
    for (at, &row_at) in ready.iter().enumerate() {
        let row = &mut rows[row_at];
        let token = match (best[at], &mut row.chooser) {
            (None, _) => {
                let message = "a logit is not a number: the model is broken".to_owned();
                ended[row_at] = Some(Err(RequestError { kind: RequestErrorKind::NotFinite, message }));
                continue;
            }
            (Some(_), Some(chooser)) => chooser.choose(&logits.get(at)?)?,
            (Some(token), None) => token,
        };
        row.generated.push(token);
        row.next.push(token);
    }
    let is_over = |(row, ended): (&Row<'_>, &Option<std::result::Result<String, RequestError>>)| {
        ended.is_none()
            && row.generated.last().is_some_and(|last| {
                row.next.len() == 1
                    && (row.generated.len() >= row.options.max_gen_toks
                        || codec.end_ids().contains(last)
                        || stops(codec, &row.options.until, profile, &row.generated))
            })
    };
    let over: Vec<bool> = rows.iter().zip(&ended).map(is_over).collect();
    let mut finished = Vec::new();
    for at in (0..rows.len()).rev() {
        let text = match ended[at].take() {
            Some(error) => error,
            None if over[at] => finish(codec, &prompts[rows[at].prompt], &rows[at].generated, profile),
            None => continue,
        };
        finished.push((rows.swap_remove(at).prompt, text));
    }
    Ok(finished)
}

/// Index of the largest logit, the first of equal ones; nothing when one is NaN.
fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best = 0;
    let mut is_number = true;
    for (id, &logit) in logits.iter().enumerate() {
        is_number &= !logit.is_nan();
        if logit > logits[best] {
            best = id;
        }
    }
    is_number.then_some(best as u32)
}

/// Whether decoding may end: some stop string is in the text. An empty one is in every text (`compat`), or ignored.
fn stops(codec: &Codec, until: &[String], profile: Profile, generated: &[u32]) -> bool {
    if until.iter().any(String::is_empty) && profile == Profile::Compat {
        return true;
    }
    let stops = || until.iter().filter(|stop| !stop.is_empty());
    let Some(longest) = stops().map(String::len).max() else { return false };
    let has_stop = |ids: &[u32]| {
        let text = codec.decode(ids).unwrap_or_default();
        stops().any(|stop| text.contains(stop.as_str()))
    };
    let tail = generated.len().saturating_sub(longest + TAIL_MARGIN_TOK);
    has_stop(&generated[tail..]) && (tail == 0 || has_stop(generated))
}

/// The answer's text, cut at the first occurrence of each stop string in list order, the end-of-text string last.
fn finish(codec: &Codec, prompt: &Prompt, generated: &[u32], profile: Profile) -> std::result::Result<String, RequestError> {
    let mut text = match profile {
        Profile::Compat => codec.decode(generated)?,
        Profile::Canonical => {
            let tail = &prompt.ids[prompt.ids.len().saturating_sub(DECODE_CONTEXT_TOK)..];
            let before = codec.decode(tail)?;
            let whole = codec.decode(&[tail, generated].concat())?;
            match whole.strip_prefix(&before) {
                Some(text) => text.to_owned(),
                None => codec.decode(generated)?, // a character that spans the join: decode the answer alone
            }
        }
    };
    for stop in prompt.options.until.iter().map(String::as_str).chain(codec.end_text()).filter(|stop| !stop.is_empty()) {
        if let Some(at) = text.find(stop) {
            text.truncate(at);
        }
    }
    Ok(text)
}

/// What several prompts begin with.
struct SharedPrefixes {
    nodes: Vec<SharedPrefix>,
    /// Innermost shared prefix of each prompt.
    innermost: Vec<Option<usize>>,
    /// Prompts in the order in which they should be admitted: neighbours share, the longest first.
    order: Vec<usize>,
    /// Nodes with a segment, and the positions of those segments together.
    held: Vec<usize>,
    held_tok: usize,
}

/// A stretch of tokens at the start of several prompts.
struct SharedPrefix {
    parent: Option<usize>,
    sequence: usize,
    start: usize,
    end: usize,
    /// Prompts that are still to be admitted.
    waiting: usize,
    segment: Option<Rc<KvSegment>>,
}

impl SharedPrefixes {
    fn new(prompts: &[Prompt], share: bool) -> Self {
        // Without its last token, so that every prompt has one of its own to go on from.
        let inputs: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt.ids[..prompt.ids.len().saturating_sub(1)]).collect();
        let mut this =
            Self { nodes: Vec::new(), innermost: vec![None; prompts.len()], order: Vec::new(), held: Vec::new(), held_tok: 0 };
        let mut roots = prefix_tree::build(&inputs, share);
        roots.sort_by_key(|node| std::cmp::Reverse(node.members.iter().map(|&i| prompts[i].ids.len()).max()));
        for root in &roots {
            this.add(root, None, prompts);
        }
        this
    }

    fn add(&mut self, node: &Node, parent: Option<usize>, prompts: &[Prompt]) {
        let mut parent = parent;
        if node.members.len() > 1 && node.end > node.start {
            let (sequence, start, end) = (node.sequence, node.start, node.end);
            self.nodes.push(SharedPrefix { parent, sequence, start, end, waiting: node.members.len(), segment: None });
            parent = Some(self.nodes.len() - 1);
        }
        let mut own: Vec<usize> = node
            .members
            .iter()
            .copied()
            .filter(|member| !node.children.iter().any(|child| child.members.contains(member)))
            .collect();
        own.sort_by_key(|&i| std::cmp::Reverse(prompts[i].ids.len()));
        for &i in &own {
            self.innermost[i] = parent;
        }
        self.order.extend(own);
        let mut children: Vec<&Node> = node.children.iter().collect();
        children.sort_by_key(|child| std::cmp::Reverse(child.members.iter().map(|&i| prompts[i].ids.len()).max()));
        for child in children {
            self.add(child, parent, prompts);
        }
    }

    /// Leading tokens of a prompt that are shared.
    fn covered(&self, prompt: usize) -> usize {
        self.innermost[prompt].map_or(0, |node| self.nodes[node].end)
    }

    /// Shared prefixes of a prompt, the innermost first.
    fn path(&self, prompt: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.innermost[prompt], |&node| self.nodes[node].parent)
    }

    /// Shared tokens of a prompt that are not held yet.
    fn missing_tok(&self, prompt: usize) -> usize {
        self.path(prompt).map(|at| &self.nodes[at]).filter(|node| node.segment.is_none()).map(|node| node.end - node.start).sum()
    }

    /// Frees the segments that no prompt waits for and no row reads.
    fn release(&mut self) {
        let nodes = &mut self.nodes;
        self.held.retain(|&at| {
            let node = &mut nodes[at];
            let is_read = node.waiting > 0 || node.segment.as_ref().is_some_and(|segment| Rc::strong_count(segment) > 1);
            if !is_read {
                node.segment = None;
                self.held_tok -= node.end - node.start;
            }
            is_read
        });
    }

    /// The segments before a prompt's own tokens, computed where they are missing; the prompt counts as admitted.
    fn chain(&mut self, decoder: &Decoder, prompts: &[Prompt], prompt: usize, budget: Budget) -> Result<Vec<Rc<KvSegment>>> {
        let mut path: Vec<usize> = self.path(prompt).collect();
        path.reverse();
        let mut chain: Vec<Rc<KvSegment>> = Vec::new();
        for at in path {
            let node = &mut self.nodes[at];
            let segment = if let Some(segment) = &node.segment {
                Rc::clone(segment)
            } else {
                let mut own = KvSegment::new(decoder.config(), node.start, node.end - node.start);
                for ids in prompts[node.sequence].ids[node.start..node.end].chunks(budget.batch_tokens.max(1)) {
                    let before = chain.iter().map(Rc::as_ref).collect();
                    decoder.forward_runs(&mut [Run { ids, before, own: &mut own }])?;
                }
                self.held.push(at);
                self.held_tok += node.end - node.start;
                Rc::clone(node.segment.insert(Rc::new(own)))
            };
            node.waiting -= 1;
            chain.push(segment);
        }
        Ok(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::encode::SpecialTokens;

    fn prompt(ids: &[u32]) -> Prompt {
        Prompt { ids: ids.to_vec(), options: Generation::default() }
    }

    #[test]
    fn the_last_token_of_a_prompt_is_its_own_even_when_prompts_are_equal() {
        let trunk: Vec<u32> = (0..20).collect();
        let longer = [&trunk[..], &[7, 8]].concat();
        let prompts = [prompt(&trunk), prompt(&longer), prompt(&trunk), prompt(&[5])];
        let shared = SharedPrefixes::new(&prompts, true);
        assert_eq!((0..4).map(|i| shared.covered(i)).collect::<Vec<_>>(), [19, 19, 19, 0]);
        let mut order = shared.order.clone();
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
        assert_eq!(shared.missing_tok(1), 19);
        let apart = SharedPrefixes::new(&prompts, false);
        assert!((0..4).all(|i| apart.covered(i) == 0));
    }

    fn codec() -> Codec {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/demo/tokenizer.json");
        Codec::new(tokenizers::Tokenizer::from_file(file).unwrap(), SpecialTokens::default())
    }

    /// Number of tokens after which a text's generation ends.
    fn ends_after(codec: &Codec, ids: &[u32], until: &[&str], profile: Profile) -> Option<usize> {
        let until: Vec<String> = until.iter().map(|&stop| stop.to_owned()).collect();
        (1..=ids.len()).find(|&count| stops(codec, &until, profile, &ids[..count]))
    }

    #[test]
    fn a_stop_string_ends_with_its_last_token_wherever_it_stands() {
        let codec = codec();
        // Longer than the tail that is looked at: the stop lies in it, then across its start, then before it.
        for filler in 0..24 {
            let text = format!("{}Q: no ÄÖÜ xyz, and more of the same after it.", "a b ".repeat(filler));
            let ids = codec.encode(&text).unwrap();
            for stop in ["Q:", "ÄÖÜ xyz", "\n\n"] {
                let first = (1..=ids.len()).find(|&count| codec.decode(&ids[..count]).unwrap().contains(stop));
                assert_eq!(ends_after(&codec, &ids, &[stop], Profile::Canonical), first, "{stop:?} after {filler} fillers");
                assert_eq!(first.is_some(), text.contains(stop));
            }
        }
    }

    #[test]
    fn a_stop_string_that_only_the_cut_makes_is_none() {
        let codec = codec();
        // A tail that begins within a character decodes to a replacement character there, the whole text does not.
        let ids = codec.encode(&"ж".repeat(40)).unwrap();
        let tail = ids.len() - "\u{fffd}".len() - TAIL_MARGIN_TOK;
        assert!((tail..ids.len()).any(|start| codec.decode(&ids[start..]).unwrap().contains('\u{fffd}')), "one token a byte");
        for count in (1..=ids.len()).filter(|&count| !codec.decode(&ids[..count]).unwrap().contains('\u{fffd}')) {
            assert!(!stops(&codec, &["\u{fffd}".to_owned()], Profile::Canonical, &ids[..count]), "{count} tokens");
        }
    }

    #[test]
    fn an_empty_stop_string_ends_at_once_in_compat_only() {
        let codec = codec();
        let ids = codec.encode("It is red. Q: no").unwrap();
        assert_eq!(ends_after(&codec, &ids, &[""], Profile::Compat), Some(1));
        assert_eq!(ends_after(&codec, &ids, &[""], Profile::Canonical), None);
        let with = ends_after(&codec, &ids, &["", "Q:"], Profile::Canonical);
        assert!(with.is_some() && with == ends_after(&codec, &ids, &["Q:"], Profile::Canonical));
    }

    #[test]
    fn a_logit_that_is_not_a_number_is_no_choice() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, -2.0]), Some(1));
        assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), Some(0));
        assert_eq!(argmax(&[0.0, f32::NAN]), None);
        assert_eq!(argmax(&[f32::NAN, 0.0]), None);
    }
}
