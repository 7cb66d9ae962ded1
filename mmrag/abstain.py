RISK=0.5
def check_risk(r): return r
def least_confidence(r): return 1-r
def page_confidence(a): return a
