"""The page's style sheet, beside Gradio's own."""

STYLE = """
footer { display: none !important; }
/* small generated pictures */
#chat [data-testid=bot] img { min-width: 12rem; object-fit: contain; }
#chat [data-testid=bot] video { max-height: 16rem; }
/* a sound's player is as high as its waveform, of which the middle is visible */
#chat .waveform-wrapper { display: flex; align-items: center; max-height: 3rem; overflow: hidden; }
#chat .waveform-wrapper > * { flex: 1; }
/* it serves pages on Hugging Face Spaces alone, and cannot be switched off for media */
#chat .message-buttons [title=Share] { display: none; }
.pane .tokens { white-space: pre-wrap; overflow-wrap: anywhere; font: .9em/1.9 ui-monospace, monospace; }
.pane .token { border-bottom: 2px solid rgb(220 60 60 / calc(1 - var(--p, 1))); }
.pane .signal { border-radius: 4px; padding: 1px 3px; margin: 0 1px; color: #111; }
.pane .image { background: #9fd3ff; } .pane .video { background: #ffd08a; } .pane .audio { background: #b6e6a8; }
#pane .pane table { width: 100%; border-collapse: collapse; margin: 4px 0 12px; }
#pane .pane :is(table, tr) { border: 0 !important; }
#pane .pane :is(td, th) {
  border: solid rgb(128 128 128 / .3) !important; border-width: 0 0 1px !important;
  padding: 3px 8px 3px 0 !important; font: inherit; text-align: left; vertical-align: top; overflow-wrap: anywhere;
}
#pane .pane th { opacity: .7; }
#pane .pane .probability { width: 9.5em; } #pane .pane .cosine { width: 4em; }
#pane .pane .chosen :is(td, code) { font-weight: 700; } #pane .pane code { white-space: pre-wrap; }
#pane .pane h4 { margin: 14px 0 2px; font: inherit; font-weight: 600; }
.pane .bar { display: inline-block; height: .7em; background: #4a90d9; border-radius: 2px; }
"""
