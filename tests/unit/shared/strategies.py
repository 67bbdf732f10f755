"""Hypothesis strategies for months, invoice IDs, currencies and export keys."""

from hypothesis import strategies as st

from shared.exports import AttributeSet, BillingMonth, Dataset, ExportKey, InvoiceScope, MonthScope

months = st.builds(BillingMonth, st.integers(2001, 2098), st.integers(1, 12))
invoice_ids = st.from_regex(r"[A-Z][0-9][A-Z0-9]{5,14}", fullmatch=True)
currencies = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3)
export_keys = st.one_of(
    st.builds(
        ExportKey,
        st.sampled_from([dataset for dataset in Dataset if dataset.billed]),
        st.builds(InvoiceScope, invoice_ids),
        st.sampled_from(AttributeSet),
    ),
    st.builds(
        ExportKey,
        st.sampled_from([dataset for dataset in Dataset if not dataset.billed]),
        st.builds(MonthScope, months, currencies),
        st.sampled_from(AttributeSet),
    ),
)
