"""speakerquant: how small can a speaker-verification network get before it stops recognising speakers?"""
