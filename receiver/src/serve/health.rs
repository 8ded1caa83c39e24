//! `/livez`, `/readyz`.
