"""The page's style sheet, beside Gradio's own."""

STYLE = """
footer { display: none !important; }
/* small generated pictures */
#chat [data-testid=bot] img { min-width: 12rem; object-fit: contain; }
/* it serves pages on Hugging Face Spaces alone, and cannot be switched off for media */
#chat .message-buttons [title=Share] { display: none; }
.pane .tokens { white-space: pre-wrap; overflow-wrap: anywhere; font: .9em/1.9 ui-monospace, monospace; }
.pane .token { border-bottom: 2px solid rgb(220 60 60 / calc(1 - var(--p, 1))); }
.pane .signal { border-radius: 4px; padding: 1px 3px; margin: 0 1px; color: #111; }
.pane .image { background: #9fd3ff; } .pane .video { background: #ffd08a; } .pane .audio { background: #b6e6a8; }
#pane .pane table { width: 100%; border-collapse: collapse; margin: 4px 0 12px; }
#pane .pane :is(td, th) {
  border: 0 solid var(--border-color-primary); border-bottom-width: 1px; padding: 3px 8px 3px 0;
  font: inherit; text-align: left; vertical-align: top; overflow-wrap: anywhere;
}
#pane .pane th { color: var(--body-text-color-subdued); }
#pane .pane td:last-child { min-width: 9em; } #pane .pane .number { min-width: 4em; }
#pane .pane .chosen td { font-weight: 600; } #pane .pane code { white-space: pre-wrap; }
#pane .pane h4 { margin: 14px 0 2px; font: inherit; font-weight: 600; }
.pane .bar { display: inline-block; height: .7em; background: #4a90d9; border-radius: 2px; }
"""
