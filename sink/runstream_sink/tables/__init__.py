"""CSV tables: real files that csv readers open, with typed values for whoever asks for them.

``types`` and ``cells`` say how a value becomes a cell, ``tokens`` how a file becomes cells again, ``parts`` which bytes
go into which part (all pure); ``files`` writes them durably and recovers, ``read`` and ``export`` give rows.
"""
