//! The one list of network families: a config is the table of one of them, chosen by its key `family`.
//!
//! Networks that read tokens and networks that read images are two enums: nothing takes the one for the other.

use laurel::ResidualConfig;
use serde::{Deserialize, Serialize};

use crate::cost::{ForwardCost, InputShape, Model, ParamCount};
use crate::decoder::DecoderConfig;
use crate::error::Result;
use crate::resnet::ResNetConfig;

/// Config of any network of this crate that reads images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum ImageModelConfig {
    /// Residual convolution network.
    Resnet(ResNetConfig),
}

impl ImageModelConfig {
    /// The value of the key `family`.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Resnet(_) => "resnet",
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first key that no network can be built from.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Resnet(config) => config.validate(),
        }
    }

    /// Replaces the residual connection.
    pub fn set_residual(&mut self, residual: ResidualConfig) {
        match self {
            Self::Resnet(config) => config.residual = residual,
        }
    }
}

impl Model for ImageModelConfig {
    fn num_params(&self) -> ParamCount {
        match self {
            Self::Resnet(config) => config.num_params(),
        }
    }

    fn cost(&self, shape: &InputShape) -> ForwardCost {
        match self {
            Self::Resnet(config) => config.cost(shape),
        }
    }
}

/// Config of any network of this crate that reads tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// Decoder-only language model, Llama or GPT form.
    Decoder(DecoderConfig),
}

impl ModelConfig {
    /// The value of the key `family`.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Decoder(_) => "decoder",
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first key that no network can be built from.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Decoder(config) => config.validate(),
        }
    }

    /// Replaces the residual connection.
    pub fn set_residual(&mut self, residual: ResidualConfig) {
        match self {
            Self::Decoder(config) => config.residual = residual,
        }
    }
}

impl Model for ModelConfig {
    fn num_params(&self) -> ParamCount {
        match self {
            Self::Decoder(config) => config.num_params(),
        }
    }

    fn cost(&self, shape: &InputShape) -> ForwardCost {
        match self {
            Self::Decoder(config) => config.cost(shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_toml_and_names_its_family() {
        for config in [DecoderConfig::table5(24), DecoderConfig::llama_1b()] {
            let config = ModelConfig::Decoder(config);
            let text = toml::to_string(&config).unwrap();
            assert!(text.starts_with("family = \"decoder\""), "{text}");
            assert_eq!(toml::from_str::<ModelConfig>(&text).unwrap(), config);
        }
    }

    #[test]
    fn unknown_keys_and_families_are_refused_by_name() {
        let text = toml::to_string(&ModelConfig::Decoder(DecoderConfig::llama_1b())).unwrap();
        let error = toml::from_str::<ModelConfig>(&text.replace("vocab_size", "vocabulary")).unwrap_err().to_string();
        assert!(error.contains("vocabulary"), "{error}");
        let error = toml::from_str::<ModelConfig>(&text.replace("\"decoder\"", "\"encoder\"")).unwrap_err().to_string();
        assert!(error.contains("encoder"), "{error}");
        let error = toml::from_str::<ModelConfig>(&text.replace("kind = \"rotary\"", "kind = \"rotary\"\nbase = 2")).unwrap_err();
        assert!(error.to_string().contains("base"), "{error}");
    }
}
