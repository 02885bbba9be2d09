"""The web layer between pages and core: what was chosen, what is served, what is shown.

Only this room and the pages know Streamlit.
"""
