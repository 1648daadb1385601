"""What the methods text may cite, by author and year."""

# Cited by author and year in the sentences; the list holds those that a sentence names.
REFERENCES = {
    "Angelopoulos et al., 2021": "Angelopoulos, A. N., Bates, S., Candès, E. J., Jordan, M. I., & "
    "Lei, L. (2021). Learn then test: Calibrating predictive algorithms to achieve risk control. "
    "arXiv:2110.01052.",
    "Angelopoulos et al., 2023": "Angelopoulos, A. N., Bates, S., Fannjiang, C., Jordan, M. I., & "
    "Zrnic, T. (2023). Prediction-powered inference. Science, 382(6671), 669–674.",
    "Bates et al., 2021": "Bates, S., Angelopoulos, A. N., Lei, L., Malik, J., & Jordan, M. I. "
    "(2021). Distribution-free, risk-controlling prediction sets. Journal of the ACM, 68(6), 43.",
    "Cochran, 1977": "Cochran, W. G. (1977). Sampling techniques (3rd ed.). Wiley.",
    "Cohen, 1960": "Cohen, J. (1960). A coefficient of agreement for nominal scales. Educational "
    "and Psychological Measurement, 20(1), 37–46.",
    "Dettmers et al., 2023": "Dettmers, T., Pagnoni, A., Holtzman, A., & Zettlemoyer, L. (2023). "
    "QLoRA: Efficient finetuning of quantized LLMs. Advances in Neural Information Processing "
    "Systems, 36.",
    "Devlin et al., 2019": "Devlin, J., Chang, M.-W., Lee, K., & Toutanova, K. (2019). BERT: "
    "Pre-training of deep bidirectional transformers for language understanding. Proceedings of "
    "NAACL-HLT 2019, 1, 4171–4186.",
    "Fleiss & Davies, 1982": "Fleiss, J. L., & Davies, M. (1982). Jackknifing functions of "
    "multinomial frequencies, with an application to a measure of concordance. American Journal of "
    "Epidemiology, 115(6), 841–845.",
    "Franco et al., 2019": "Franco, C., Little, R. J. A., Louis, T. A., & Slud, E. V. (2019). "
    "Comparative study of confidence intervals for proportions in complex sample surveys. Journal "
    "of Survey Statistics and Methodology, 7(3), 334–364.",
    "Guo et al., 2017": "Guo, C., Pleiss, G., Sun, Y., & Weinberger, K. Q. (2017). On calibration "
    "of modern neural networks. Proceedings of the 34th International Conference on Machine "
    "Learning, 1321–1330.",
    "Holm, 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. "
    "Scandinavian Journal of Statistics, 6(2), 65–70.",
    "Hu et al., 2022": "Hu, E. J., Shen, Y., Wallis, P., Allen-Zhu, Z., Li, Y., Wang, S., Wang, "
    "L., & Chen, W. (2022). LoRA: Low-rank adaptation of large language models. International "
    "Conference on Learning Representations.",
    "Kish, 1965": "Kish, L. (1965). Survey sampling. Wiley.",
    "Korn & Graubard, 1998": "Korn, E. L., & Graubard, B. I. (1998). Confidence intervals for "
    "proportions with small expected number of positive counts estimated from survey data. Survey "
    "Methodology, 24(2), 193–201.",
    "Krippendorff, 2018": "Krippendorff, K. (2018). Content analysis: An introduction to its "
    "methodology (4th ed.). SAGE.",
    "McNemar, 1947": "McNemar, Q. (1947). Note on the sampling error of the difference between "
    "correlated proportions or percentages. Psychometrika, 12(2), 153–157.",
    "Northcutt et al., 2021": "Northcutt, C. G., Jiang, L., & Chuang, I. L. (2021). Confident "
    "learning: Estimating uncertainty in dataset labels. Journal of Artificial Intelligence "
    "Research, 70, 1373–1411.",
    "Wilson, 1927": "Wilson, E. B. (1927). Probable inference, the law of succession, and "
    "statistical inference. Journal of the American Statistical Association, 22(158), 209–212.",
    "Wolter, 2007": "Wolter, K. M. (2007). Introduction to variance estimation (2nd ed.). "
    "Springer.",
}
