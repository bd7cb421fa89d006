# Answers to the paper's reviewers, a target of its own.
REVIEWERS_ARTEFACTS = [*files_of(STUDY.names(FIGURE, REVIEWERS)), *files_of(STUDY.names(TABLE, REVIEWERS))]


rule reviewers:
    input:
        REVIEWERS_ARTEFACTS,
    message:
        "The answers to the reviewers at scale {STUDY.scale} are there"
