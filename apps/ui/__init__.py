"""The parts of the Streamlit app that apps/chat.py puts together: one module for each page, and what they share."""
